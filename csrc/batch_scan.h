#ifndef TAILRACE_BATCH_SCAN_H
#define TAILRACE_BATCH_SCAN_H
#include <stdint.h>

/* Batches as engine/FORMAT.md draws them, read and sealed in place.
   data points at a segment's first byte, whose log position is base_position. */

enum {
    TR_BATCH_HEADER_BYTES = 80,
    TR_BATCH_VERSION = 1,
    TR_BATCH_OK = 0,
    TR_BATCH_ZERO = 1, /* a header of zeros: nothing was written here */
    TR_BATCH_BAD = 2
};

struct tr_batch_ref {
    uint64_t offset; /* from data */
    uint64_t watermark;
    uint64_t stream_id;
    uint64_t base_ordinal;
    uint32_t length;
    uint32_t record_count;
    uint32_t kind;
    uint32_t flags;
};

/* TR_BATCH_OK, _ZERO or _BAD for the bytes at offset. */
int32_t tr_batch_check(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position);

/* Writes each batch's checksum into a run of batches that fills length exactly.
   Returns how many there are, or 0 if their lengths do not add up. */
uint64_t tr_batch_seal(uint8_t *data, uint64_t length);

/* Describes the valid batches from offset on, at most capacity of them.
   Returns their number; *next is the offset behind the last one. */
uint64_t tr_batch_scan(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position, struct tr_batch_ref *out, uint64_t capacity,
                       uint64_t *next);

/* The offset of the first valid batch at or behind offset, or length if there is none. */
uint64_t tr_batch_find(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position);

/* The offset behind the last byte that is not zero, no less than offset. */
uint64_t tr_nonzero_end(const uint8_t *data, uint64_t length, uint64_t offset);

#endif
