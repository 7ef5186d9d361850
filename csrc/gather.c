#include "gather.h"

#include "batch_scan.h"
#include "map.h"

#include "batch_layout.inc"

/* Whether a whole batch holds ordinal of stream_id. */
static int holds(const uint8_t *batch, uint64_t stream_id, uint64_t ordinal)
{
    uint64_t base = get64(batch + AT_BASE_ORDINAL);
    return get64(batch + AT_STREAM_ID) == stream_id && ordinal >= base &&
           ordinal - base < get32(batch + AT_RECORD_COUNT);
}

/* The batch at offset, if it is whole and holds ordinal of stream_id; else NULL. */
static const uint8_t *batch_holding(const uint8_t *segment, uint64_t segment_length,
                                    uint64_t base_position, uint64_t offset, uint64_t stream_id,
                                    uint64_t ordinal)
{
    if (tr_batch_check(segment, segment_length, offset, base_position) != TR_BATCH_OK)
        return 0;
    return holds(segment + offset, stream_id, ordinal) ? segment + offset : 0;
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

/* A run of records inside one batch. */
struct run {
    const uint8_t *begin;
    uint64_t length;
    uint64_t records;
    int full; /* the record behind it does not fit */
    int bad;  /* the table of ends is damaged */
};

/* The records of batch from ordinal on, at most `most` of them and `room` bytes; the first whatever
   its size if forced. */
static struct run take_run(const uint8_t *batch, uint64_t ordinal, uint64_t most, uint64_t room,
                           int forced)
{
    uint32_t count = get32(batch + AT_RECORD_COUNT);
    uint32_t first = (uint32_t)(ordinal - get64(batch + AT_BASE_ORDINAL));
    const uint8_t *table = batch + TR_BATCH_HEADER_BYTES;
    const uint8_t *payload = table + 4ull * count + get32(batch + AT_FIELDS_LENGTH);
    uint32_t payload_length = get32(batch + AT_PAYLOAD_LENGTH);
    uint32_t begin = first ? get32(table + 4ull * (first - 1)) : 0;
    uint32_t end = begin;
    uint32_t record = first;
    struct run run = {payload + begin, 0, 0, 0, 0};
    while (record < count && record - first < most) {
        uint32_t next = get32(table + 4ull * record);
        if (next < end || next > payload_length) {
            run.bad = 1;
            break;
        }
        if (next - begin > room && !(forced && record == first)) {
            run.full = 1;
            break;
        }
        end = next;
        record++;
    }
    run.length = end - begin;
    run.records = record - first;
    return run;
}

/* So many bytes are asked about at once: small batches stand one behind the other. */
#define NEAR_WINDOW 65536u

static int in_memory(const uint8_t *segment, uint64_t segment_length, uint64_t begin, uint64_t end,
                     struct tr_near *near)
{
    if (near->trusting || (begin >= near->begin && end <= near->end))
        return 1;
    uint64_t beyond = begin + NEAR_WINDOW;
    if (beyond < end)
        beyond = end;
    if (beyond > segment_length)
        beyond = segment_length;
    if (!tr_map_resident(segment, begin, beyond)) {
        if (beyond == end || !tr_map_resident(segment, begin, end))
            return 0;
        beyond = end;
    }
    near->begin = begin;
    near->end = beyond;
    return 1;
}

/* Whether the header of a batch can be read without waiting. */
static int header_is_near(const uint8_t *segment, uint64_t segment_length, uint64_t offset,
                          struct tr_near *near)
{
    return in_memory(segment, segment_length, offset, offset + TR_BATCH_HEADER_BYTES, near);
}

/* Whether a batch can be verified without waiting, and without much work. */
static int batch_is_near(const uint8_t *segment, uint64_t segment_length, uint64_t offset,
                         struct tr_near *near)
{
    uint64_t length = get32(segment + offset + AT_LENGTH);
    if (length > segment_length - offset)
        return 1; /* damage: it is not read on */
    if (length > near->verified_max ||
        !in_memory(segment, segment_length, offset, offset + length, near))
        return 0;
    near->verified_max -= length;
    return 1;
}

void tr_gather_pieces(const uint8_t *segment, uint64_t segment_length, uint64_t base_position,
                      uint64_t stream_id, uint64_t ordinal, const uint32_t *entries,
                      uint64_t record_count, uint64_t max_bytes, int32_t one_at_least,
                      uint64_t min_mapped, uint8_t *out, uint64_t capacity,
                      struct tr_piece *pieces, uint32_t pieces_capacity, struct tr_near *near,
                      struct tr_pieces_result *result)
{
    uint64_t copied = 0;
    uint32_t used = 0;
    result->status = TR_GATHER_DONE;
    result->records = 0;
    result->bytes = 0;
    result->end_offset = 0;
    result->bad_offset = 0;
    while (result->records < record_count) {
        uint64_t at = ordinal + result->records;
        uint64_t offset = entries[result->records];
        int within = offset + TR_BATCH_HEADER_BYTES <= segment_length;
        int asks = near && within && result->checked != offset + 1;
        if (asks && !header_is_near(segment, segment_length, offset, near)) {
            result->status = TR_GATHER_FAR;
            break;
        }
        if (result->bytes && result->bytes >= max_bytes / 2 && within &&
            get32(segment + offset + AT_PAYLOAD_LENGTH) > max_bytes - result->bytes) {
            /* Most of it would be verified now to be read later. If its length is damage, the
               read that begins there finds out. */
            result->status = TR_GATHER_FULL;
            break;
        }
        if (asks && !batch_is_near(segment, segment_length, offset, near)) {
            result->status = TR_GATHER_FAR;
            break;
        }
        if (result->checked != offset + 1 &&
            tr_batch_check(segment, segment_length, offset, base_position) != TR_BATCH_OK)
            goto bad;
        const uint8_t *batch = segment + offset;
        result->checked = offset + 1;
        if (!holds(batch, stream_id, at))
            goto bad;
        struct run run = take_run(batch, at, record_count - result->records,
                                  max_bytes - result->bytes, one_at_least && !result->records);
        if (run.bad)
            goto bad;
        int copy = run.length < min_mapped;
        struct tr_piece *last = used ? &pieces[used - 1] : 0;
        int joins = copy && last && last->copied;
        if (run.records && ((!joins && used == pieces_capacity) ||
                            (copy && run.length > capacity - copied))) {
            result->status = TR_GATHER_ROOM;
            break;
        }
        if (joins) {
            last->length += run.length;
        } else if (run.length) {
            pieces[used].offset = copy ? copied : (uint64_t)(run.begin - segment);
            pieces[used].length = run.length;
            pieces[used].copied = (uint32_t)copy;
            used++;
        }
        if (copy) {
            memcpy(out + copied, run.begin, run.length);
            copied += run.length;
        }
        result->records += run.records;
        result->bytes += run.length;
        result->end_offset = offset + get32(batch + AT_LENGTH);
        if (run.full || result->bytes > max_bytes) {
            result->status = TR_GATHER_FULL;
            break;
        }
        continue;
    bad:
        result->status = TR_GATHER_BAD;
        result->bad_offset = offset;
        break;
    }
    result->pieces = used;
}
