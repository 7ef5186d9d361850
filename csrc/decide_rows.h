/* Plain appends of a turn decided in one step, by walking Python's own objects. */

#ifndef TR_DECIDE_ROWS_H
#define TR_DECIDE_ROWS_H
#include <stdint.h>

enum {
    /* Places in a StreamState, and how many it has. */
    TR_STATE_TAIL = 1,
    TR_STATE_LAST_WRITE = 4,
    TR_STATE_PRODUCERS = 7,
    TR_STATE_PLAIN = 14,
    TR_STATE_FIELDS = 15,
    /* Places in a Plain. */
    TR_PLAIN_TYPE = 0,
    TR_PLAIN_FLAGS = 1
};

/* What is asked: keys, types (lists, the stream of each group and the type it was sent with) and
   counts (u32 each). What is known: names (a dict of ids by key) and streams (of states by id).
   state_type is StreamState; producer_of, if it is not None, is called with a group's index and the
   producers that its stream knows, and gives those it knows then, or None.

   What is told, for each group: stream_ids, firsts, times (u64 each; 0 for a group that is left)
   and flags (a byte each, producer_flag among them if the producers changed). In states, a dict,
   the state of each stream after its last group. */
struct tr_decide_rows {
    const uint32_t *counts;
    uint64_t *stream_ids;
    uint64_t *firsts;
    uint64_t *times;
    uint8_t *flags;
    uint64_t now_ms;
    uint8_t producer_flag;
};

/* A new list of the indexes of the groups that are left: there is no such stream, it is not plain,
   has another type, or producer_of says None. For a caller that holds the GIL, and whatever the
   dicts are guarded by. NULL, and an exception: what comparing keys or types raised, or
   producer_of did, or no memory. Pointers are to Python objects, which cffi has no word for. */
void *tr_decide_rows(const struct tr_decide_rows *columns, void *keys, void *types, void *names,
                     void *streams, void *state_type, void *producer_of, void *states);

#endif
