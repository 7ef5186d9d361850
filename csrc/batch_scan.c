#include "batch_scan.h"

#include "checksum.h"

#include "batch_layout.inc"

static int is_zero_header(const uint8_t *batch)
{
    uint64_t any = 0;
    for (int at = 0; at < TR_BATCH_HEADER_BYTES; at += 8)
        any |= get64(batch + at);
    return any == 0;
}

/* Everything but the checksum: cheap, so that a search for batches rejects most offsets here. */
static int is_plausible(const uint8_t *batch, uint64_t room, uint64_t position)
{
    if (get64(batch + AT_POSITION) != position || batch[AT_VERSION] != TR_BATCH_VERSION)
        return 0;
    uint64_t length = get32(batch + AT_LENGTH);
    if (length > room || length % 8 != 0)
        return 0;
    uint64_t used = TR_BATCH_HEADER_BYTES + 4ull * get32(batch + AT_RECORD_COUNT) +
                    get32(batch + AT_FIELDS_LENGTH) + get32(batch + AT_PAYLOAD_LENGTH);
    return used <= length && length - used < 8;
}

int32_t tr_batch_check(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position)
{
    if (offset > length || length - offset < TR_BATCH_HEADER_BYTES)
        return TR_BATCH_BAD;
    const uint8_t *batch = data + offset;
    if (!is_plausible(batch, length - offset, base_position + offset))
        return is_zero_header(batch) ? TR_BATCH_ZERO : TR_BATCH_BAD;
    uint32_t crc = tr_crc32c(batch + AT_LENGTH, get32(batch + AT_LENGTH) - AT_LENGTH, 0);
    return crc == get32(batch + AT_CRC) ? TR_BATCH_OK : TR_BATCH_BAD;
}

uint64_t tr_batch_seal(uint8_t *data, uint64_t length)
{
    uint64_t count = 0;
    uint64_t offset = 0;
    while (offset < length) {
        if (length - offset < TR_BATCH_HEADER_BYTES)
            return 0;
        uint8_t *batch = data + offset;
        uint32_t size = get32(batch + AT_LENGTH);
        if (size < TR_BATCH_HEADER_BYTES || size > length - offset || size % 8 != 0)
            return 0;
        uint32_t crc = tr_crc32c(batch + AT_LENGTH, size - AT_LENGTH, 0);
        memcpy(batch + AT_CRC, &crc, 4);
        offset += size;
        count++;
    }
    return count;
}

uint64_t tr_batch_scan(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position, struct tr_batch_ref *out, uint64_t capacity,
                       uint64_t *next)
{
    uint64_t count = 0;
    while (count < capacity &&
           tr_batch_check(data, length, offset, base_position) == TR_BATCH_OK) {
        const uint8_t *batch = data + offset;
        struct tr_batch_ref *ref = out + count++;
        ref->offset = offset;
        ref->watermark = get64(batch + AT_WATERMARK);
        ref->stream_id = get64(batch + AT_STREAM_ID);
        ref->base_ordinal = get64(batch + AT_BASE_ORDINAL);
        ref->length = get32(batch + AT_LENGTH);
        ref->record_count = get32(batch + AT_RECORD_COUNT);
        ref->kind = batch[AT_KIND];
        ref->flags = get16(batch + AT_FLAGS);
        offset += ref->length;
    }
    *next = offset;
    return count;
}

uint64_t tr_batch_find(const uint8_t *data, uint64_t length, uint64_t offset,
                       uint64_t base_position)
{
    for (; offset + TR_BATCH_HEADER_BYTES <= length; offset += 8)
        if (get64(data + offset + AT_POSITION) == base_position + offset &&
            tr_batch_check(data, length, offset, base_position) == TR_BATCH_OK)
            return offset;
    return length;
}

uint64_t tr_nonzero_end(const uint8_t *data, uint64_t length, uint64_t offset)
{
    while (length > offset && length % 8 != 0 && data[length - 1] == 0)
        length--;
    while (length >= offset + 8 && get64(data + length - 8) == 0)
        length -= 8;
    while (length > offset && data[length - 1] == 0)
        length--;
    return length;
}
