#ifndef TAILRACE_TESTS_STRESS_MESSAGES_H
#define TAILRACE_TESTS_STRESS_MESSAGES_H
#include <stddef.h>
#include <stdint.h>

/* What clients of the reactor send and must receive: each byte follows from who asks for what.

   Each connection has an id that no other ever has. Its requests are numbered; id and number stand
   in the request's path, its body is a function of them, and so is the answer; some requests, of
   whatever connection, have one of COMMON_ANSWERS. */

enum {
    REQUEST_BYTES_MAX = 24 * 1024,
    ANSWER_BYTES_MAX = 60 * 1024,
    LANES = 4,
    COMMON_ANSWERS = 5,
};

/* A request; if it is the last, it asks for the connection to be closed. out holds
   REQUEST_BYTES_MAX. Returns its length, as all that make something do. */
size_t request_make(uint64_t id, uint32_t number, int last, uint8_t *out);

/* A request that no plain parser takes, so that its connection is handed over. */
size_t odd_request_make(uint64_t id, uint32_t number, uint8_t *out);

/* Whether a request's path and body are those of some connection's request. */
int request_read(const uint8_t *path, size_t path_length, const uint8_t *body, size_t body_length,
                 uint64_t *id, uint32_t *number);

/* Some requests, with a head that they share, are one record or some, of one of LANES lanes. Their
   answer is a form with two holes: the id in hexadecimal, and number + 1 in eight digits. */
int is_record(uint64_t id, uint32_t number);

/* The head of a lane's records, with these digits as Content-Length and as Producer-Seq. */
int record_head_make(uint32_t lane, const char *digits, const char *seq, char *out,
                     size_t capacity);

/* Whose record that is, and how many like it that request has; 0 if it is nobody's. */
uint32_t record_read(const uint8_t *record, size_t length, uint64_t *id, uint32_t *number);

/* The pieces of the form: what is before the id, between the two, and behind. */
extern const char *const FORM_PIECES[3];

/* Which of the common answers a request has; -1: one of its own. */
int answer_common(uint64_t id, uint32_t number);

/* The answer to a request: out holds ANSWER_BYTES_MAX. */
size_t answer_make(uint64_t id, uint32_t number, uint8_t *out);

/* What a connection that was handed over must be told before it is closed, for its odd request:
   out holds 64. */
size_t farewell_text(uint64_t id, uint32_t number, char *out);

/* The same for data, the bytes that were handed over with it, which begin with the odd request;
   0 if they do not. */
size_t farewell_make(const uint8_t *data, size_t length, char *out);

#endif
