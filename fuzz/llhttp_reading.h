#ifndef TAILRACE_FUZZ_LLHTTP_READING_H
#define TAILRACE_FUZZ_LLHTTP_READING_H
#include <stddef.h>
#include <stdint.h>

/* What llhttp makes of the first request in some bytes: the second opinion of fuzz_http_request.c.
   Needs the sources of llhttp (https://github.com/nodejs/llhttp), which are not part of this. */

enum { READING_FIELDS_MAX = 512 };

enum reading_result { READING_COMPLETE, READING_INCOMPLETE, READING_REFUSED };

/* A place in the bytes that were read. */
struct span {
    size_t start;
    size_t length;
};

struct reading {
    struct span method;
    struct span target;
    struct span version;
    struct span names[READING_FIELDS_MAX];
    struct span values[READING_FIELDS_MAX]; /* without spaces and tabs around them */
    size_t fields;
    struct span body; /* only of a request with Content-Length */
    size_t end;       /* where the next request begins, if this one is complete */
    int chunked;
    int keep_alive;
    int head_complete;
};

/* A request with more than READING_FIELDS_MAX fields is READING_REFUSED. */
enum reading_result read_with_llhttp(const uint8_t *data, size_t length, struct reading *reading);

#endif
