#include "gather_small.h"

#include "gather.h"

void tr_gather_small(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
                     const uint64_t *stream_ids, const uint64_t *ordinals, const uint32_t *counts,
                     const uint32_t *entries, uint32_t reads, int32_t trusting,
                     uint64_t bytes_max, uint8_t *out, uint64_t capacity, uint64_t *ends)
{
    struct tr_near near = {.trusting = trusting};
    uint64_t used = 0;
    for (uint32_t i = 0; i < reads; i++) {
        const uint64_t left = capacity - used;
        struct tr_piece all;
        struct tr_pieces_result result = {.checked = 0};
        near.verified_max = TR_SMALL_VERIFIED * bytes_max;
        tr_gather_pieces(segment, segment_length, base_position, stream_ids[i], ordinals[i],
                         entries, counts[i], left < bytes_max ? left : bytes_max, 0, UINT64_MAX,
                         out + used, left, &all, 1, &near, &result);
        if (result.status == TR_GATHER_DONE)
            used += result.bytes;
        ends[i] = used;
        entries += counts[i];
    }
}
