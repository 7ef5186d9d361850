#ifndef TAILRACE_HEADS_H
#define TAILRACE_HEADS_H
#include <stdint.h>

/* Heads of requests that are understood, by their bytes.

   A key is a head without the digits of its Content-Length, which the body tells, and without
   those of a plain Producer-Seq, which each request says anew. Neither field is ever empty in a
   head that is looked up, so a key says by itself what was left out of it. Its number is the
   caller's, who keeps what the head means under it; what a head's body must be like to be
   taken by tr_turn stands here. Equal bytes are compared in full, and hashed with a seed that
   nobody outside knows (SipHash), so that no client can make others' heads slow to find.

   For one thread. Memory: heads_max keys of at most key_max bytes, and 64 bytes for each. */

enum { TR_HEAD_KEY_MAX = 4096, TR_HEAD_SEED_BYTES = 16 };

struct tr_heads;

/* Bytes of a head that are not in its key. */
struct tr_hole {
    uint32_t at;
    uint32_t length;
};

/* What the appends that come with a head have in common. */
struct tr_head_lane {
    uint32_t lane;        /* 1 to heads_max; 0: they are not that plain */
    uint32_t json;        /* their records are JSON */
    uint32_t producer;    /* they are an idempotent producer's, each with its Producer-Seq */
    uint32_t body_max;    /* larger bodies are for another to look at, */
    uint32_t records_max; /* and those of more records */
};

/* NULL if there is no memory, or a bound is out of bounds. seed: TR_HEAD_SEED_BYTES bytes. */
struct tr_heads *tr_heads_new(uint32_t heads_max, uint32_t key_max, const uint8_t *seed);

void tr_heads_free(struct tr_heads *heads);

/* Keeps a key under number (1 to heads_max) in place of whatever had that number. 0, and nobody
   has the number any more, if the key is too long or has a number, or there is no memory. */
int32_t tr_heads_put(struct tr_heads *heads, uint32_t number, const uint8_t *key,
                     uint32_t key_length, const struct tr_head_lane *lane);

/* Forgets them all. */
void tr_heads_clear(struct tr_heads *heads);

/* The number of the head of length bytes without two holes, which come in any order, do not
   overlap and may have no length; 0 if it is not here. */
uint32_t tr_heads_find(const struct tr_heads *heads, const uint8_t *head, uint32_t length,
                       struct tr_hole one, struct tr_hole other);

#endif
