#ifndef TAILRACE_TESTS_FANOUT_CLIENTS_H
#define TAILRACE_TESTS_FANOUT_CLIENTS_H
#include <stdint.h>

/* Streams of messages, and clients that know every byte of them, stall and leave as they like.

   A message is a function of its stream and its number. A received byte that is not the expected
   one ends the program. One thread has turns; clients may be added by another. */

enum { STREAMS = 2, MESSAGE_MAX = 48 * 1024, CLIENTS_MAX = 1024 };

struct listeners_counts {
    uint64_t received; /* bytes */
    uint64_t left;     /* clients that gave up */
    uint64_t ended;    /* streams that ended before the last message, but between two */
};

/* Makes up what messages are made of. */
void messages_new(uint64_t seed);

uint64_t message_length(uint32_t stream, uint64_t message);
const uint8_t *message_bytes(uint32_t stream, uint64_t message);

/* A client with this non-blocking socket, which becomes its own, hears stream from message on. */
void listeners_add(int descriptor, uint32_t stream, uint64_t message, uint64_t seed);

/* Lets every client read once, or not. totals: NULL, or how many messages each stream has had in
   all; then nobody leaves or stalls any more. Returns how many clients there still are. */
uint32_t listeners_turn(const uint64_t *totals);

struct listeners_counts listeners_counts(void);

/* Ends the program. */
void broken(const char *what);

#endif
