/* Coverage-guided fuzzing of the recogniser of JSON records; what its inputs mean to the parser of
   bodies is fuzz_json_value.py's to say. Here it stays within its input and agrees with itself.
   Without libFuzzer see standalone.c. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/json_value.h"

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

enum { RECORDS_MAX = 200 };

/* Asks about before, data and behind, in memory that ends where they end; so do the spans. */
static uint32_t ask(const char *before, const uint8_t *data, size_t length, const char *behind,
                    uint32_t nesting_max, uint32_t capacity, struct tr_json_span *spans)
{
    const size_t first = strlen(before), last = strlen(behind), whole = first + length + last;
    uint8_t *copy = malloc(whole ? whole : 1);
    struct tr_json_span *found = malloc(capacity ? capacity * sizeof *found : 1);
    require(copy != NULL && found != NULL, "there is memory");
    memcpy(copy, before, first);
    if (length)
        memcpy(copy + first, data, length);
    memcpy(copy + first + length, behind, last);
    const uint32_t said = tr_json_records(copy, whole, nesting_max, found, capacity);
    require(said <= capacity, "there are no more records than there is room");
    if (spans)
        memcpy(spans, found, said * sizeof *spans);
    free(copy);
    free(found);
    return said;
}

static int is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The records stand in order, one comma between two, brackets around those of an array. */
static void check_spans(const uint8_t *data, size_t length, const struct tr_json_span *spans,
                        uint32_t count)
{
    uint32_t at = 0, i = 0, commas = 0, opened = 0, closed = 0;
    while (at < length) {
        if (i < count && at == spans[i].begin) {
            require(spans[i].begin < spans[i].end && spans[i].end <= length, "a record is there");
            const uint8_t *record = data + at;
            const size_t size = spans[i].end - at;
            require(memchr(record, '\n', size) == NULL && memchr(record, '\r', size) == NULL,
                    "a record is on one line");
            require(!is_blank(record[0]) && !is_blank(record[size - 1]), "nothing is around it");
            require(commas == i && closed == 0, "a comma is between two");
            at = spans[i++].end;
            continue;
        }
        commas += data[at] == ',';
        opened += data[at] == '[';
        closed += data[at] == ']';
        require(is_blank(data[at]) || data[at] == ',' || data[at] == '[' || data[at] == ']',
                "nothing else is between them");
        at++;
    }
    require(i == count && commas + 1 == count, "every record is found");
    require(opened == closed && opened <= 1 && (opened || count == 1), "brackets are around them");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    const uint32_t most = TR_JSON_NESTING_MAX;
    struct tr_json_span spans[RECORDS_MAX];
    const uint32_t said = ask("", data, length, "", most, RECORDS_MAX, spans);
    require(!ask("", data, length, "", most + 1, RECORDS_MAX, NULL),
            "the depth that is asked for is bounded");
    for (uint32_t depth = 0; depth < most; depth += 1 + depth / 3) {
        const uint32_t flat = ask("", data, length, "", depth, RECORDS_MAX, NULL);
        require(!flat || flat == said, "what may nest less may nest more");
    }
    if (ask("", data, length, "", most - 2, RECORDS_MAX, NULL)) {
        require(ask("{\"\":", data, length, "}", most, 1, NULL) ||
                    memchr(data, '\n', length) != NULL || memchr(data, '\r', length) != NULL,
                "a value can be a member");
        require(ask("[0,", data, length, "]", most, 2, NULL) == 2 ||
                    memchr(data, '\n', length) != NULL || memchr(data, '\r', length) != NULL,
                "a value can be an item");
    }
    if (!said)
        return 0;
    check_spans(data, length, spans, said);
    require(ask("", data, length, "", most, said, NULL) == said &&
                !ask("", data, length, "", most, said - 1, NULL),
            "there is room for all or it is left");
    require(ask(" \n", data, length, "\r\t", most, said, NULL) == said, "blanks are around it");
    require(!ask("", data, length, ",", most, RECORDS_MAX, NULL) &&
                !ask("", data, length, "]", most, RECORDS_MAX, NULL) &&
                !ask("[", data, length, "", most, RECORDS_MAX, NULL),
            "nothing else is put around it");
    for (size_t part = 0; part < length; part++) {
        const uint32_t fewer = ask("", data, part, "", most, RECORDS_MAX, NULL);
        const uint8_t first = data[spans[0].begin], next = data[part];
        require(!fewer || is_blank(next) || first == '-' || (first >= '0' && first <= '9'),
                "only a number begins with another value");
    }
    return 0;
}
