#ifndef TAILRACE_BATCH_BUILD_H
#define TAILRACE_BATCH_BUILD_H
#include <stdint.h>

enum {
    TR_BUILD_KIND = 1, /* an APPEND batch */
    TR_BUILD_JSON = 2, /* the flag of one whose records are each followed by a comma */
    TR_BUILD_BAD_COUNTS = -1,
    TR_BUILD_BAD_LENGTHS = -2,
    TR_BUILD_BAD_COMMA = -3,
    TR_BUILD_NO_ROOM = -4
};

/* Whose appends they are: each array has a value for each batch. epoch and seq are 0 where there is
   no producer, and lengths, of its fields in bytes, too. */
struct tr_build_producers {
    const uint64_t *epochs;
    const uint64_t *seqs;
    const uint32_t *lengths;
    const uint8_t *fields; /* back to back */
    uint64_t fields_length;
};

/* Makes APPEND batches, but for their checksums, back to back in out, the first for log position.

   stream_ids, bases, times (created at), flags and counts have a value for each of the batches;
   producers may be NULL. lengths has one for each record, in the payload's order: batch after
   batch. One whose stream's id is 0 is not made; its records are passed over.

   Returns how many bytes of out were written, and in offsets where each batch stands in out. Or,
   then out means nothing: _COUNTS if a count is 0 or they do not add up to records; _LENGTHS if
   the lengths do not add up to payload_length, or those of fields to fields_length; _COMMA if a
   record of a batch flagged JSON is not at least one byte and a comma; _ROOM if capacity does not
   suffice. */
int64_t tr_batch_build(const uint64_t *stream_ids, const uint64_t *bases, const uint64_t *times,
                       const uint8_t *flags, const uint32_t *counts, uint64_t batches,
                       const struct tr_build_producers *producers, const uint32_t *lengths,
                       uint64_t records, const uint8_t *payload, uint64_t payload_length,
                       uint64_t position, uint64_t watermark, uint8_t *out, uint64_t capacity,
                       uint32_t *offsets);

#endif
