#ifndef TAILRACE_TESTS_STRESS_CLIENTS_H
#define TAILRACE_TESTS_STRESS_CLIENTS_H
#include <stddef.h>
#include <stdint.h>

/* Clients that know every byte they must receive, and leave whenever they like.

   Each connection has an id that no other ever has. Its requests are numbered; id and number stand
   in the request's path, its body is a function of them, and so is the answer; some requests, of
   whatever connection, have one of COMMON_ANSWERS. A received byte that is not the expected one
   ends the program. */

enum {
    REQUEST_BYTES_MAX = 24 * 1024,
    ANSWER_BYTES_MAX = 60 * 1024,
    LANES = 4,
    COMMON_ANSWERS = 5,
};

struct crowd_counts {
    uint64_t connections;
    uint64_t requests; /* sent, at least in part */
    uint64_t answers;  /* received whole */
    uint64_t received; /* bytes */
    uint64_t left;     /* connections given up with answers outstanding */
    uint64_t handed;   /* connections that were handed over, and told so */
};

/* The next number of a sequence that seed names (splitmix64). */
uint64_t dice_next(uint64_t *seed);

/* Whether a request's path and body are those of some connection's request. */
int request_read(const uint8_t *path, size_t path_length, const uint8_t *body, size_t body_length,
                 uint64_t *id, uint32_t *number);

/* Some requests, with a head that they share, are records of one of LANES lanes. Their answer is a
   form with two holes: the id in hexadecimal, and number + 1 in eight digits. */
int is_record(uint64_t id, uint32_t number);

/* The head of a lane's records, with these digits as Content-Length and as Producer-Seq. */
int record_head_make(uint32_t lane, const char *digits, const char *seq, char *out,
                     size_t capacity);

/* Whose record that is; 0 if it is none. */
int record_read(const uint8_t *record, size_t length, uint64_t *id, uint32_t *number);

/* The pieces of the form: what is before the id, between the two, and behind. */
extern const char *const FORM_PIECES[3];

/* Which of the common answers a request has; -1: one of its own. */
int answer_common(uint64_t id, uint32_t number);

/* The answer to a request: out holds ANSWER_BYTES_MAX. Returns its length. */
size_t answer_make(uint64_t id, uint32_t number, uint8_t *out);

/* What a handed-over connection must be told before it is closed: out holds 64. data: the bytes
   that were handed over with it, which begin with the request that nobody but a hand-over can
   answer. Returns the length, or 0 if the bytes are not that. */
size_t farewell_make(const uint8_t *data, size_t length, char *out);

/* Talk to the server at 127.0.0.1:port for about so long; then every connection is closed. */
struct crowd_counts crowd_run(uint16_t port, int clients, double seconds, uint64_t seed);

#endif
