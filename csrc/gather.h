#ifndef TAILRACE_GATHER_H
#define TAILRACE_GATHER_H
#include <stdint.h>

enum {
    TR_GATHER_DONE = 0, /* every entry was copied */
    TR_GATHER_FULL = 1, /* the next record does not fit into out */
    TR_GATHER_BAD = 2   /* a batch is damaged, or not the one its index entry names */
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

#endif
