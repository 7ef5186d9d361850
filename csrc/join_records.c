#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "join_records.h"

typedef PyObject *item_of(PyObject *sequence, Py_ssize_t index);

/* How long the records are, with their separators; -1 if they cannot be joined here. */
static int64_t total_length(PyObject *records, item_of *item, Py_ssize_t count, int separated,
                            int64_t bytes_max)
{
    int64_t total = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *record = item(records, i);
        if (!Py_IS_TYPE(record, &PyBytes_Type))
            return -1;
        total += (int64_t)Py_SIZE(record) + (separated ? 1 : 0);
        if (total > bytes_max)
            return -1;
    }
    return total;
}

static char *put(char *to, PyObject *bytes)
{
    size_t length = (size_t)Py_SIZE(bytes);
    memcpy(to, PyBytes_AsString(bytes), length);
    return to + length;
}

/* Nobody else runs Python between the two walks: the records are the same in both. */
static void fill(char *out, PyObject *front, PyObject *middle, PyObject *records, item_of *item,
                 Py_ssize_t count, int separated)
{
    char *table = put(out, front);
    char *first = put(table + 4 * count, middle);
    char *to = first;
    for (Py_ssize_t i = 0; i < count; i++) {
        to = put(to, item(records, i));
        if (separated)
            *to++ = ',';
        uint32_t end = (uint32_t)(to - first);
        memcpy(table, &end, 4);
        table += 4;
    }
}

void *tr_join_records(void *front, void *middle, void *records, int separated,
                      int64_t bytes_max, int64_t spare)
{
    int is_list = Py_IS_TYPE((PyObject *)records, &PyList_Type);
    if (!is_list && !Py_IS_TYPE((PyObject *)records, &PyTuple_Type))
        Py_RETURN_NONE;
    item_of *item = is_list ? PyList_GetItem : PyTuple_GetItem;
    Py_ssize_t count = Py_SIZE((PyObject *)records);
    int64_t total = total_length(records, item, count, separated, bytes_max);
    if (total < 0)
        Py_RETURN_NONE;
    Py_ssize_t length =
        Py_SIZE((PyObject *)front) + 4 * count + Py_SIZE((PyObject *)middle) + (Py_ssize_t)total;
    PyObject *made = PyByteArray_FromStringAndSize(NULL, length + (Py_ssize_t)spare);
    if (made == NULL || PyByteArray_Resize(made, length) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    fill(PyByteArray_AsString(made), front, middle, records, item, count, separated);
    return made;
}
