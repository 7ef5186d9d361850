#ifndef TAILRACE_FANOUT_H
#define TAILRACE_FANOUT_H
#include <stdint.h>

/* A descriptor that did not take everything. */
struct tr_fanout_short {
    uint64_t sent;  /* bytes it took: none if it has no room, or is broken */
    uint32_t index; /* its place among the descriptors */
};

/* Sends the same bytes to every descriptor, and waits for none of them.

   Each is a connected stream socket that nobody else writes to or closes during the call. Returns
   how many did not take everything; shorts, with room for count, says which, in their order. */
uint32_t tr_fanout_send(const int32_t *descriptors, uint32_t count, const uint8_t *data,
                        uint64_t length, struct tr_fanout_short *shorts);

#endif
