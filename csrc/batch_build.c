#include "batch_build.h"

#include "batch_scan.h"

#include "batch_layout.inc"

static void put16(uint8_t *p, uint16_t value)
{
    memcpy(p, &value, 2);
}

static void put32(uint8_t *p, uint32_t value)
{
    memcpy(p, &value, 4);
}

static void put64(uint8_t *p, uint64_t value)
{
    memcpy(p, &value, 8);
}

/* The table of ends; 0 if a record lacks its comma. */
static int put_ends(uint8_t *table, const uint32_t *lengths, uint32_t count,
                    const uint8_t *payload, int is_json)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        end += lengths[i];
        if (is_json && (lengths[i] < 2 || payload[end - 1] != ','))
            return 0;
        put32(table + 4ull * i, end);
    }
    return 1;
}

int64_t tr_batch_build(const uint64_t *stream_ids, const uint64_t *bases, const uint64_t *times,
                       const uint8_t *flags, const uint32_t *counts, uint64_t batches,
                       const struct tr_build_producers *producers, const uint32_t *lengths,
                       uint64_t records, const uint8_t *payload, uint64_t payload_length,
                       uint64_t position, uint64_t watermark, uint8_t *out, uint64_t capacity,
                       uint32_t *offsets)
{
    uint64_t used = 0, fields_at = 0;
    for (uint64_t i = 0; i < batches; i++) {
        const uint32_t count = counts[i], fields = producers ? producers->lengths[i] : 0;
        if (count == 0 || count > records)
            return TR_BUILD_BAD_COUNTS;
        uint64_t size = 0;
        for (uint32_t j = 0; j < count; j++)
            size += lengths[j];
        if (size > payload_length || (fields && fields > producers->fields_length - fields_at))
            return TR_BUILD_BAD_LENGTHS;
        offsets[i] = (uint32_t)used;
        if (stream_ids[i] != 0) {
            uint64_t filled = TR_BATCH_HEADER_BYTES + 4ull * count + fields + size;
            uint64_t length = (filled + 7) & ~7ull;
            if (length > capacity - used || used + length > UINT32_MAX)
                return TR_BUILD_NO_ROOM;
            uint8_t *batch = out + used;
            memset(batch, 0, TR_BATCH_HEADER_BYTES);
            put32(batch + AT_LENGTH, (uint32_t)length);
            batch[AT_VERSION] = TR_BATCH_VERSION;
            batch[AT_KIND] = TR_BUILD_KIND;
            put16(batch + AT_FLAGS, flags[i]);
            put32(batch + AT_RECORD_COUNT, count);
            put64(batch + AT_POSITION, position + used);
            put64(batch + AT_WATERMARK, watermark);
            put64(batch + AT_STREAM_ID, stream_ids[i]);
            put64(batch + AT_BASE_ORDINAL, bases[i]);
            put64(batch + AT_CREATED_AT_MS, times[i]);
            put32(batch + AT_FIELDS_LENGTH, fields);
            put32(batch + AT_PAYLOAD_LENGTH, (uint32_t)size);
            uint8_t *table = batch + TR_BATCH_HEADER_BYTES, *rest = table + 4ull * count;
            if (!put_ends(table, lengths, count, payload, flags[i] & TR_BUILD_JSON))
                return TR_BUILD_BAD_COMMA;
            if (producers) {
                put64(batch + AT_PRODUCER_EPOCH, producers->epochs[i]);
                put64(batch + AT_PRODUCER_SEQ, producers->seqs[i]);
                memcpy(rest, producers->fields + fields_at, fields);
            }
            memcpy(rest + fields, payload, size);
            memset(batch + filled, 0, length - filled);
            used += length;
        }
        lengths += count;
        records -= count;
        payload += size;
        payload_length -= size;
        fields_at += fields;
    }
    if (records != 0)
        return TR_BUILD_BAD_COUNTS;
    if (producers && fields_at != producers->fields_length)
        return TR_BUILD_BAD_LENGTHS;
    return payload_length == 0 ? (int64_t)used : TR_BUILD_BAD_LENGTHS;
}
