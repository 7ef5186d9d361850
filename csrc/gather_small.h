#ifndef TAILRACE_GATHER_SMALL_H
#define TAILRACE_GATHER_SMALL_H
#include <stdint.h>

/* Many reads of little out of one segment, each as by tr_gather_pieces, with all bytes copied.

   Read i is of the counts[i] records of stream_ids[i] from ordinals[i] on; entries has theirs,
   behind those of the read before. Its bytes go behind those of the read before, and ends[i] is
   where they end in out. A read takes none if it is of more than bytes_max bytes or does not fit
   into what is left of out, if it meets damage, or if it would take long: it verifies batches of
   no more than TR_SMALL_VERIFIED times bytes_max, all of them in memory (trusting: without
   asking). What becomes of such a read is for tr_gather_pieces to say. */

enum { TR_SMALL_VERIFIED = 4 };

void tr_gather_small(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
                     const uint64_t *stream_ids, const uint64_t *ordinals, const uint32_t *counts,
                     const uint32_t *entries, uint32_t reads, int32_t trusting,
                     uint64_t bytes_max, uint8_t *out, uint64_t capacity, uint64_t *ends);

#endif
