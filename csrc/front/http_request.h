#ifndef TAILRACE_HTTP_REQUEST_H
#define TAILRACE_HTTP_REQUEST_H
#include <stdint.h>

/* The plain requests of HTTP/1.1, and no others (RFC 9112). What is accepted here means the
   same to every other parser; whatever might not is TR_HTTP_OTHER and another parser's
   business, whether it is good or bad. A pure function of the bytes. */

enum {
    TR_HTTP_COMPLETE = 0,
    TR_HTTP_PARTIAL = 1, /* plain so far, and not whole yet */
    TR_HTTP_OTHER = 2,

    TR_HTTP_GET = 0,
    TR_HTTP_HEAD = 1,
    TR_HTTP_POST = 2,
    TR_HTTP_PUT = 3,
    TR_HTTP_PATCH = 4,
    TR_HTTP_DELETE = 5,
    TR_HTTP_OPTIONS = 6,

    TR_HTTP_FIELDS_MAX = 32,
    TR_HTTP_SEQ_DIGITS_MAX = 15 /* below 2^53: each such Producer-Seq is good (section 5.2.1) */
};

struct tr_http_limits {
    uint32_t head_max; /* request line and fields, with the empty line behind them */
    uint32_t body_max;
    uint32_t fields_max; /* at most TR_HTTP_FIELDS_MAX */
};

/* Offsets are from the request's first byte. A value has no space around it. */
struct tr_http_field {
    uint32_t name;
    uint32_t name_length;
    uint32_t value;
    uint32_t value_length;
};

struct tr_http_request {
    uint32_t method;
    uint32_t target;
    uint32_t target_length;
    uint32_t head_length; /* the body follows; 0 while a partial head has not ended */
    uint32_t body_length;
    uint32_t keep_alive; /* 0 if the client said Connection: close */
    uint32_t length_value; /* where Content-Length says body_length; 0 if it was not sent */
    uint32_t length_value_length;
    uint32_t seq_value; /* the digits of Producer-Seq, if it is a plain number; else no length */
    uint32_t seq_value_length;
    uint32_t field_count;
    struct tr_http_field fields[32];
};

/* TR_HTTP_COMPLETE, _PARTIAL or _OTHER for the bytes of one request, which others may follow.
   A request that is complete, or OTHER, stays so whatever follows; and a prefix of a complete
   one is PARTIAL. */
int32_t tr_http_parse(const uint8_t *data, uint64_t length, const struct tr_http_limits *limits,
                      struct tr_http_request *out);

#endif
