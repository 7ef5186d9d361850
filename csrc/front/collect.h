#ifndef TAILRACE_COLLECT_H
#define TAILRACE_COLLECT_H
#include <stdint.h>

#include "heads.h"
#include "reactor.h"

/* The plain appends of one poll as columns.

   Each row of a request is told its head's number (heads.h). Of those whose head belongs to a
   lane, whose client stays, and whose body is one record for certain (json_value.h for JSON; else
   any that is not empty), the bodies are put together stream by stream, in the order they came;
   the first lane that leads to a stream is its lane in this turn. All others are left. Linear in
   the rows and their bytes. For the thread that polls. */

/* Where a poll's rows go; each has room for as many items as there may be rows. */
struct tr_columns {
    uint32_t *lanes;   /* that have rows, one for each stream */
    uint32_t *streams; /* each once */
    uint32_t *counts;  /* how many rows it has */
    uint32_t *indexes; /* of the rows, lane after lane */
    uint64_t *handles; /* theirs */
    uint32_t *lengths; /* of their records, a JSON one's comma included */
    uint32_t *left;    /* indexes of the other rows */
    uint8_t *payload;  /* the records, a comma behind each that is JSON */
    uint64_t payload_capacity;
};

struct tr_collected {
    uint32_t lanes;
    uint32_t taken; /* rows in lanes */
    uint32_t left;
    uint32_t reserved;
    uint64_t payload;
    uint64_t bodies; /* bytes of the bodies that were taken: the payload without commas */
};

/* Where a turn puts what it finds, and how much that is. */
struct tr_turn {
    uint8_t *arena;
    uint64_t arena_capacity;
    struct tr_row *rows;
    uint32_t rows_capacity;
    uint32_t fields_capacity;
    struct tr_row_field *fields;
    struct tr_columns columns;
    struct tr_polled polled;
    struct tr_collected collected;
};

/* Polls and makes columns, in one call. take 0: every row is left, and told its head's number.
   A TR_ROW_HEAD whose head has a number is neither taken nor left: nothing is to be done for it.
   nesting_max: of JSON, for tr_json_is_value. */
void tr_turn(struct tr_reactor *reactor, uint64_t room, struct tr_heads *heads, uint32_t take,
             uint32_t nesting_max, struct tr_turn *turn);

#endif
