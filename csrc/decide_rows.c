#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>

#include "decide_rows.h"

enum {
    STATE_BYTES = (TR_STATE_FIELDS + 3) * sizeof(PyObject *), /* a tuple's, or nearly so */
    LINE_BYTES = 64
};

/* A state like another but for these; NULL if there is no memory. Takes the three references. */
static PyObject *state_after(PyTypeObject *type, PyObject *state, PyObject *tail, PyObject *time,
                             PyObject *producers)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *made = tail != NULL && time != NULL ? alloc(type, TR_STATE_FIELDS) : NULL;
    if (made == NULL) {
        Py_XDECREF(tail);
        Py_XDECREF(time);
        Py_DECREF(producers);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < TR_STATE_FIELDS; i++) {
        PyObject *item;
        if (i == TR_STATE_TAIL)
            item = tail;
        else if (i == TR_STATE_LAST_WRITE)
            item = time;
        else if (i == TR_STATE_PRODUCERS)
            item = producers;
        else
            item = Py_NewRef(PyTuple_GetItem(state, i));
        PyTuple_SetItem(made, i, item);
    }
    return made;
}

struct group {
    PyObject *key, *id, *state; /* id and state: NULL if there is no such stream */
};

struct walk {
    const struct tr_decide_rows *columns;
    PyObject *types, *names, *streams, *producer_of, *states;
    PyTypeObject *state_type;
    struct group *groups;
    Py_ssize_t count;
};

/* With thousands of streams nothing of a turn's is in the caches: to find all of one kind at a
   time, and have the next kind fetched meanwhile, is to wait for memory once for all groups. */
static int find_all(const struct walk *walk)
{
    struct group *groups = walk->groups;
    for (Py_ssize_t i = 0; i < walk->count; i++)
        if (PyTuple_Check(groups[i].key))
            for (Py_ssize_t j = 0; j < PyTuple_Size(groups[i].key); j++)
                __builtin_prefetch(PyTuple_GetItem(groups[i].key, j));
    for (Py_ssize_t i = 0; i < walk->count; i++) {
        groups[i].id = PyDict_GetItemWithError(walk->names, groups[i].key);
        if (groups[i].id == NULL && PyErr_Occurred())
            return -1;
        __builtin_prefetch(groups[i].id);
    }
    for (Py_ssize_t i = 0; i < walk->count; i++) {
        if (groups[i].id == NULL)
            continue;
        groups[i].state = PyDict_GetItemWithError(walk->streams, groups[i].id);
        if (groups[i].state == NULL) {
            if (!PyErr_Occurred())
                PyErr_SetObject(PyExc_KeyError, groups[i].id);
            return -1;
        }
        for (size_t at = 0; at < STATE_BYTES; at += LINE_BYTES)
            __builtin_prefetch((const char *)groups[i].state + at);
    }
    for (Py_ssize_t i = 0; i < walk->count; i++)
        for (Py_ssize_t j = 0; groups[i].state != NULL && j < TR_STATE_FIELDS; j++)
            __builtin_prefetch(PyTuple_GetItem(groups[i].state, j));
    return 0;
}

/* 1: the group is taken; 0: it is left; -1: an exception. */
static int decide(const struct walk *walk, Py_ssize_t i)
{
    const struct tr_decide_rows *columns = walk->columns;
    PyObject *id = walk->groups[i].id;
    if (id == NULL)
        return 0;
    PyObject *state = PyDict_GetItemWithError(walk->states, id); /* after an earlier group */
    if (state == NULL)
        state = walk->groups[i].state;
    PyObject *plain = PyTuple_GetItem(state, TR_STATE_PLAIN);
    if (Py_IsNone(plain))
        return 0;
    const int same = PyObject_RichCompareBool(PyList_GetItem(walk->types, i),
                                              PyTuple_GetItem(plain, TR_PLAIN_TYPE), Py_EQ);
    if (same <= 0)
        return same;
    PyObject *known = PyTuple_GetItem(state, TR_STATE_PRODUCERS), *producers = Py_NewRef(known);
    unsigned flags = (unsigned)PyLong_AsLong(PyTuple_GetItem(plain, TR_PLAIN_FLAGS));
    if (!Py_IsNone(walk->producer_of)) {
        Py_DECREF(producers);
        producers = PyObject_CallFunction(walk->producer_of, "nO", i, known);
        if (producers == NULL || Py_IsNone(producers)) {
            Py_XDECREF(producers);
            return producers == NULL ? -1 : 0;
        }
        if (producers != known)
            flags |= columns->producer_flag;
    }
    const uint64_t tail = PyLong_AsUnsignedLongLong(PyTuple_GetItem(state, TR_STATE_TAIL));
    PyObject *last_write = PyTuple_GetItem(state, TR_STATE_LAST_WRITE);
    uint64_t time = PyLong_AsUnsignedLongLong(last_write);
    if (time < columns->now_ms)
        time = columns->now_ms;
    PyObject *after = state_after(walk->state_type, state,
                                  PyLong_FromUnsignedLongLong(tail + columns->counts[i]),
                                  PyLong_FromUnsignedLongLong(time), producers);
    if (after == NULL || PyErr_Occurred() || PyDict_SetItem(walk->states, id, after) < 0) {
        Py_XDECREF(after);
        return -1;
    }
    Py_DECREF(after);
    columns->stream_ids[i] = PyLong_AsUnsignedLongLong(id);
    columns->firsts[i] = tail;
    columns->times[i] = time;
    columns->flags[i] = (uint8_t)flags;
    return 1;
}

static PyObject *decide_all(const struct walk *walk)
{
    PyObject *left = find_all(walk) < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; left != NULL && i < walk->count; i++) {
        const int taken = decide(walk, i);
        PyObject *index = taken == 0 ? PyLong_FromSsize_t(i) : NULL;
        if (taken < 0 || (taken == 0 && (index == NULL || PyList_Append(left, index) < 0)))
            Py_CLEAR(left);
        Py_XDECREF(index);
    }
    return left;
}

void *tr_decide_rows(const struct tr_decide_rows *columns, void *keys, void *types, void *names,
                     void *streams, void *state_type, void *producer_of, void *states)
{
    const Py_ssize_t count = Py_SIZE((PyObject *)keys);
    struct group *groups = PyMem_Calloc((size_t)count, sizeof *groups);
    if (groups == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        __builtin_prefetch(groups[i].key = PyList_GetItem(keys, i));
    const struct walk walk = {
        columns, types, names, streams, producer_of, states, state_type, groups, count,
    };
    PyObject *left = decide_all(&walk);
    PyMem_Free(groups);
    return left;
}
