#ifndef TAILRACE_COLLECT_H
#define TAILRACE_COLLECT_H
#include <stdint.h>

#include "heads.h"
#include "json_value.h"
#include "reactor.h"

/* The plain appends of one poll as columns.

   Each row of a request is told its head's number (heads.h). Of those whose head belongs to a
   lane, whose client stays, and whose body is records for certain (json_value.h for JSON; else
   one, of any body that is not empty), the records are put together in groups: those of one
   lane, in the order they came, or each row of a producer's lane by itself. All others are left.
   Linear in the rows and their bytes. For the thread that polls. */

/* Where a poll's rows go. lengths and spans have room for records_capacity items, the others for
   as many as there may be rows. */
struct tr_columns {
    uint32_t *lanes;   /* of the groups */
    uint64_t *seqs;    /* what stands in a producer's Producer-Seq; else 0 */
    uint32_t *counts;  /* how many rows a group has */
    uint32_t *records; /* and records, in all of them */
    uint32_t *indexes; /* of the rows, group after group */
    uint64_t *handles; /* theirs */
    uint32_t *ends;    /* how many of its group's records there are up to the end of the row */
    uint32_t *left;    /* indexes of the other rows */
    uint32_t *lengths; /* of the records, a JSON one's comma included */
    uint8_t *payload;  /* the records, a comma behind each that is JSON */
    uint64_t payload_capacity;
    uint32_t records_capacity;
    /* Used on the way. */
    uint32_t *groups;           /* a row's */
    uint32_t *firsts;           /* where in spans its records begin */
    uint32_t *places;           /* where a group's next row goes */
    struct tr_json_span *spans; /* where each record stands in its body */
};

struct tr_collected {
    uint32_t groups;
    uint32_t taken; /* rows in groups */
    uint32_t left;
    uint32_t records; /* in groups */
    uint64_t payload;
    uint64_t bodies; /* bytes of the bodies that were taken, as they came */
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
   nesting_max: of a JSON record. */
void tr_turn(struct tr_reactor *reactor, uint64_t room, struct tr_heads *heads, uint32_t take,
             uint32_t nesting_max, struct tr_turn *turn);

#endif
