/* Reading answers from a socket, piece by piece: HTTP/1.1 and RESP (Redis).

   As strict as a measurement needs: what is not framed as the protocol says ends the
   connection and fails the run. Nothing is stored but the headers that a client of
   durable streams goes by; bodies are handed on as they come. */
#ifndef LG_ANSWER_H
#define LG_ANSWER_H
#include "load.h"
#include <stdint.h>

#define LG_HEAD_BYTES_MAX 8192

typedef struct {
    uint8_t state;         /* private to answer.c */
    uint8_t up_to_date;    /* Stream-Up-To-Date: true */
    uint8_t closing;       /* Connection: close */
    uint8_t has_length;
    uint8_t chunked;
    int16_t status;        /* HTTP: the status; RESP: 200, or 500 for an error */
    uint64_t left;         /* bytes of the body or chunk, or RESP elements, still to come */
    uint64_t bulk;         /* RESP: bytes of the string that is being read, with its CRLF */
    uint32_t head_length;
    uint32_t offset_length, cursor_length;
    char offset[LG_TOKEN_BYTES_MAX]; /* Stream-Next-Offset */
    char cursor[LG_TOKEN_BYTES_MAX]; /* Stream-Cursor */
    uint8_t head[LG_HEAD_BYTES_MAX]; /* a line or head of which only a part has come */
} lg_answer;

enum { LG_MORE = 0, LG_HEAD_READ = 1, LG_BODY = 2, LG_DONE = 3, LG_MALFORMED = 4 };

void lg_answer_begin(lg_answer *answer);

/* Each reads some of [data, data + length) and says in *used how much.
   LG_MORE: all of it, and more is needed. LG_HEAD_READ: status and headers are known now.
   LG_BODY: *body and *body_length are the next piece of the body. LG_DONE: that was the end.
   LG_MALFORMED: not an answer. */
int lg_http_read(lg_answer *answer, const uint8_t *data, uint32_t length, uint32_t *used,
                 const uint8_t **body, uint32_t *body_length);
int lg_resp_read(lg_answer *answer, const uint8_t *data, uint32_t length, uint32_t *used,
                 const uint8_t **body, uint32_t *body_length);
#endif
