#include "gather.h"

#include "batch_scan.h"

#include "batch_layout.inc"

/* The batch at offset, if it is whole and holds ordinal of stream_id; else NULL. */
static const uint8_t *batch_holding(const uint8_t *segment, uint64_t segment_length,
                                    uint64_t base_position, uint64_t offset, uint64_t stream_id,
                                    uint64_t ordinal)
{
    if (tr_batch_check(segment, segment_length, offset, base_position) != TR_BATCH_OK)
        return 0;
    const uint8_t *batch = segment + offset;
    uint64_t base = get64(batch + AT_BASE_ORDINAL);
    if (get64(batch + AT_STREAM_ID) != stream_id || ordinal < base ||
        ordinal - base >= get32(batch + AT_RECORD_COUNT))
        return 0;
    return batch;
}

void tr_gather(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
               uint64_t stream_id, uint64_t ordinal, const uint32_t *entries,
               uint64_t record_count, uint8_t *out, uint64_t capacity, uint32_t *ends,
               uint32_t ends_base, struct tr_gather_result *result)
{
    uint64_t done = 0;
    uint64_t used = 0;
    result->status = TR_GATHER_DONE;
    result->next_bytes = 0;
    result->bad_offset = 0;
    while (done < record_count) {
        uint64_t offset = entries[done];
        const uint8_t *batch = batch_holding(segment, segment_length, base_position, offset,
                                             stream_id, ordinal + done);
        if (!batch) {
            result->status = TR_GATHER_BAD;
            result->bad_offset = offset;
            break;
        }
        uint32_t count = get32(batch + AT_RECORD_COUNT);
        uint32_t first = (uint32_t)(ordinal + done - get64(batch + AT_BASE_ORDINAL));
        const uint8_t *table = batch + TR_BATCH_HEADER_BYTES;
        const uint8_t *payload = table + 4ull * count + get32(batch + AT_FIELDS_LENGTH);
        uint32_t payload_length = get32(batch + AT_PAYLOAD_LENGTH);
        uint32_t begin = first ? get32(table + 4ull * (first - 1)) : 0;
        uint32_t end = begin;
        uint32_t record = first;
        uint64_t left = record_count - done;
        while (record < count && record - first < left) {
            uint32_t next = get32(table + 4ull * record);
            if (next < end || next > payload_length) {
                result->status = TR_GATHER_BAD;
                result->bad_offset = offset;
                break;
            }
            if (used + (next - begin) > capacity) {
                result->status = TR_GATHER_FULL;
                result->next_bytes = next - end;
                break;
            }
            end = next;
            ends[done + (record - first)] = ends_base + (uint32_t)(used + (end - begin));
            record++;
        }
        memcpy(out + used, payload + begin, end - begin);
        used += end - begin;
        done += record - first;
        if (result->status != TR_GATHER_DONE)
            break;
    }
    result->records = done;
    result->bytes = used;
}
