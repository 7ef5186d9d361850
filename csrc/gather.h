#ifndef TAILRACE_GATHER_H
#define TAILRACE_GATHER_H
#include <stdint.h>

enum {
    TR_GATHER_DONE = 0, /* every entry was copied */
    TR_GATHER_FULL = 1, /* the next record does not fit into out */
    TR_GATHER_BAD = 2,  /* a batch is damaged, or not the one its index entry names */
    TR_GATHER_ROOM = 3, /* out or pieces are used up: go on with fresh ones */
    TR_GATHER_FAR = 4   /* it would take too long: see struct tr_near */
};

struct tr_gather_result {
    uint64_t records;     /* copied */
    uint64_t bytes;       /* copied */
    uint64_t next_bytes;  /* with _FULL: size of the record that did not fit */
    uint64_t bad_offset;  /* with _BAD: the batch's offset in the segment */
    int32_t status;
};

/* Copies the wire bytes of one stream's records out of a segment, verifying every batch's checksum.

   entries holds, for the record_count records from ordinal on, the offset of the batch that holds
   each. ends receives, for each record copied, where it ends in out, plus ends_base. */
void tr_gather(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
               uint64_t stream_id, uint64_t ordinal, const uint32_t *entries,
               uint64_t record_count, uint8_t *out, uint64_t capacity, uint32_t *ends,
               uint32_t ends_base, struct tr_gather_result *result);

/* Consecutive bytes of a read. */
struct tr_piece {
    uint64_t offset; /* in out if copied, else in the segment */
    uint64_t length;
    uint32_t copied;
};

struct tr_pieces_result {
    uint64_t records;    /* taken */
    uint64_t bytes;      /* taken, copied or not */
    uint64_t end_offset; /* in the segment, behind the last batch that was looked at */
    uint64_t bad_offset; /* with _BAD: the batch's offset in the segment */
    uint64_t checked;    /* in and out: 1 + offset of the batch last verified, 0 for none */
    uint32_t pieces;     /* filled in */
    int32_t status;
};

/* What a read may do for whose thread has other things to do; for all its calls together. */
struct tr_near {
    uint64_t verified_max; /* bytes of batches to verify; it becomes what is left of them */
    uint64_t begin;        /* these bytes of the segment are in memory, by tr_map_resident: */
    uint64_t end;          /*   0 and 0 to begin with, and for another segment */
    int32_t trusting;      /* not 0: all of it is, without asking */
};

/* Where the wire bytes of one stream's records stand, up to max_bytes and verified as by tr_gather.

   A run of min_mapped bytes and more is left where it is, in the segment; a shorter one is copied
   to out, whose capacity is no less than min_mapped. The first record is taken, whatever its size,
   if one_at_least is not 0. With half of max_bytes and more, it ends before a batch that does not
   fit. near, if it is not NULL, says what it may take; with TR_GATHER_FAR that was not enough. */
void tr_gather_pieces(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
                      uint64_t stream_id, uint64_t ordinal, const uint32_t *entries,
                      uint64_t record_count, uint64_t max_bytes, int32_t one_at_least,
                      uint64_t min_mapped, uint8_t *out, uint64_t capacity,
                      struct tr_piece *pieces, uint32_t pieces_capacity, struct tr_near *near,
                      struct tr_pieces_result *result);

#endif
