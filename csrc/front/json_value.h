#ifndef TAILRACE_JSON_VALUE_H
#define TAILRACE_JSON_VALUE_H
#include <stdint.h>

/* Bodies that are one JSON record for certain (RFC 8259). What is accepted here is a record as it
   stands; whatever else it is, another parser's business. A pure function of the bytes. */

enum { TR_JSON_NESTING_MAX = 128 };

/* 1 if all of data is one JSON value in UTF-8, no array, on one line, with nothing around it, that
   nests at most nesting_max (itself at most TR_JSON_NESTING_MAX) levels deep and escapes no
   surrogate; else 0. */
int32_t tr_json_is_value(const uint8_t *data, uint64_t length, uint32_t nesting_max);

#endif
