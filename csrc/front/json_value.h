#ifndef TAILRACE_JSON_VALUE_H
#define TAILRACE_JSON_VALUE_H
#include <stdint.h>

/* Bodies that hold JSON records for certain (RFC 8259; protocol section 9.1). What is accepted
   here is cut as any other parser of such bodies cuts it; whatever else a body is, is another
   parser's business. A pure function of the bytes. */

enum { TR_JSON_NESTING_MAX = 128 };

/* Where a record stands in its body. */
struct tr_json_span {
    uint32_t begin;
    uint32_t end;
};

/* How many records are in data, and where: the values of the one array that it is, of which one
   level is flattened, or the one other value. 0 if that is not certain: unless all of it is JSON
   in UTF-8, there are 1 to capacity records, and each is on one line, nests at most nesting_max
   (itself at most TR_JSON_NESTING_MAX) levels deep and escapes no surrogate. */
uint32_t tr_json_records(const uint8_t *data, uint64_t length, uint32_t nesting_max,
                         struct tr_json_span *spans, uint32_t capacity);

#endif
