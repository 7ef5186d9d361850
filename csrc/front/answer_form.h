#ifndef TAILRACE_ANSWER_FORM_H
#define TAILRACE_ANSWER_FORM_H
#include <stdint.h>

/* An answer that many requests get but for some numbers: pieces of its bytes, with holes behind
   them. What stands where is for whoever cuts it. Pure functions. */

enum {
    TR_HOLE_NONE = 0,
    TR_HOLE_TAIL = 1,   /* the tail in decimal */
    TR_HOLE_STREAM = 2, /* the stream's id in hexadecimal, lower case */
    TR_HOLE_EPOCH = 3,  /* the producer's epoch in decimal */
    TR_HOLE_SEQ = 4,    /* its sequence number in decimal */

    TR_FORM_PIECES_MAX = 16,
    TR_FORM_BYTES_MAX = 1024
};

struct tr_form_piece {
    uint32_t length; /* bytes of this piece; they follow those of the piece before it */
    uint32_t hole;   /* what comes behind them */
    uint32_t width;  /* the number begins with as many zeros as it takes to be so wide */
};

struct tr_form {
    uint32_t piece_count;
    uint32_t byte_count;
    struct tr_form_piece pieces[16];
    uint8_t bytes[1024];
};

/* What the holes are filled with. */
struct tr_form_numbers {
    uint64_t stream_id;
    uint64_t tail;
    uint64_t epoch;
    uint64_t seq;
};

/* Fills out, of TR_FORM_BYTES_MAX bytes; the length, or 0 if the form is none or too long. */
uint32_t tr_form_fill(const struct tr_form *form, const struct tr_form_numbers *numbers,
                      uint8_t *out);

#endif
