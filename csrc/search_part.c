#include "search_part.h"
#include "search_part.inc"

#include "checksum.h"

static const uint8_t MAGIC[8] = {'T', 'R', 'S', 'E', 'A', 'R', 'C', 'H'};

struct term_entry part_entry(const struct tr_part *part, const uint8_t *table, uint32_t index)
{
    const uint8_t *raw = table + (uint64_t)TERM_ENTRY_BYTES * index;
    struct term_entry entry;
    entry.bitmap = part->postings + load64(raw);
    entry.name = part->names + load64(raw + 8);
    entry.bitmap_bytes = load32(raw + 16);
    entry.count = load32(raw + 20);
    entry.name_length = load32(raw + 24);
    entry.exceptions = load32(raw + 28);
    entry.frequencies = entry.bitmap + entry.bitmap_bytes;
    entry.exception_table = entry.frequencies + entry.count;
    return entry;
}

int part_find(const struct tr_part *part, const uint8_t *table, uint32_t count,
              const uint8_t *name, uint32_t length, struct term_entry *out)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *raw = table + (uint64_t)TERM_ENTRY_BYTES * middle;
        int order = compare_names(part->names + load64(raw + 8), load32(raw + 24), name, length);
        if (order == 0) {
            *out = part_entry(part, table, middle);
            return 1;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

uint32_t part_lower_bound(const struct tr_part *part, uint32_t low, uint32_t high,
                          uint64_t ordinal)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (part->ordinals[middle] < ordinal)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int64_t tr_part_find_stream(const struct tr_part *part, uint64_t stream_id)
{
    uint32_t low = 0, high = part->streams;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t there = load64(part->stream_table + (uint64_t)STREAM_ENTRY_BYTES * middle);
        if (there == stream_id)
            return middle;
        if (there < stream_id)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

uint64_t tr_part_live(const struct tr_part *part, const uint64_t *floors, uint32_t floors_count)
{
    uint64_t live = part->documents;
    for (uint32_t i = 0; i < part->streams && i < floors_count; i++) {
        struct stream_entry stream = part_stream(part, i);
        uint32_t end = stream.first + stream.count;
        live -= part_lower_bound(part, stream.first, end, floors[i]) - stream.first;
    }
    return live;
}

static int check_dictionary(const struct tr_part *part, const uint8_t *table, uint32_t count,
                            int has_frequencies)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *raw = table + (uint64_t)TERM_ENTRY_BYTES * i;
        uint64_t postings_at = load64(raw), name_at = load64(raw + 8);
        uint64_t bytes = load32(raw + 16);
        uint32_t documents = load32(raw + 20), name_length = load32(raw + 24);
        uint32_t exceptions = load32(raw + 28);
        if (!has_frequencies && exceptions != ALL_ONES)
            return -1;
        if (exceptions != ALL_ONES) {
            if (exceptions > documents)
                return -1;
            bytes += documents + 8ull * exceptions;
        }
        if (documents == 0 || documents > part->documents)
            return -1;
        if (postings_at > part->postings_bytes || bytes > part->postings_bytes - postings_at)
            return -1;
        if (name_at > part->names_bytes || name_length > part->names_bytes - name_at)
            return -1;
        if (i > 0) {
            const uint8_t *before = raw - TERM_ENTRY_BYTES;
            if (compare_names(part->names + load64(before + 8), load32(before + 24),
                              part->names + name_at, name_length) >= 0)
                return -1;
        }
    }
    return 0;
}

static int check_streams(const struct tr_part *part)
{
    uint32_t next = 0;
    uint64_t length_sum = 0;
    for (uint32_t i = 0; i < part->streams; i++) {
        struct stream_entry stream = part_stream(part, i);
        if (i > 0 && part_stream(part, i - 1).stream_id >= stream.stream_id)
            return -1;
        if (stream.first != next || stream.count == 0 || stream.count > part->documents - next)
            return -1;
        next += stream.count;
        for (uint32_t d = stream.first; d < next; d++) {
            if (part->document_streams[d] != i)
                return -1;
            if (d > stream.first && part->ordinals[d - 1] >= part->ordinals[d])
                return -1;
            length_sum += part->lengths[d];
        }
    }
    return next == part->documents && length_sum == part->length_sum ? 0 : -1;
}

int32_t tr_part_open(const uint8_t *data, uint64_t length, struct tr_part *out)
{
    const uint8_t *section[TR_PART_SECTIONS];
    uint64_t bytes[TR_PART_SECTIONS];
    if ((uintptr_t)data % 8)
        return TR_PART_UNALIGNED;
    if (length < TR_PART_HEADER_BYTES || memcmp(data, MAGIC, sizeof MAGIC) != 0)
        return TR_PART_NO_PART;
    if (load32(data + 8) != TR_PART_VERSION || load32(data + 12) != TR_PART_HEADER_BYTES)
        return TR_PART_OTHER_VERSION;
    if (tr_crc32c(data, TR_PART_HEADER_BYTES - 4, 0) != load32(data + TR_PART_HEADER_BYTES - 4))
        return TR_PART_BAD_HEADER;
    if (load64(data + 56) != length)
        return TR_PART_CUT_OFF;
    uint64_t position = TR_PART_HEADER_BYTES;
    for (uint32_t i = 0; i < TR_PART_SECTIONS; i++) {
        const uint8_t *entry = data + 64 + 24 * i;
        uint64_t offset = load64(entry);
        bytes[i] = load64(entry + 8);
        if (offset < position || offset - position >= 8 || offset % 8 || offset > length ||
            bytes[i] > length - offset || load32(entry + 20) != 0)
            return TR_PART_BAD_TABLE;
        for (; position < offset; position++)
            if (data[position])
                return TR_PART_BAD_TABLE;
        section[i] = data + offset;
        position = offset + bytes[i];
        if (tr_crc32c(section[i], bytes[i], 0) != load32(entry + 16))
            return TR_PART_BAD_SECTION;
    }
    if (position != length)
        return TR_PART_BAD_TABLE;
    out->data = data;
    out->length = length;
    out->documents = load32(data + 16);
    out->streams = load32(data + 20);
    out->terms = load32(data + 24);
    out->types = load32(data + 28);
    out->length_sum = load64(data + 32);
    out->first_position = load64(data + 40);
    out->end_position = load64(data + 48);
    out->analyzer = load32(data + 280);
    out->checksum = load32(data + TR_PART_HEADER_BYTES - 4);
    if (out->documents == UINT32_MAX || out->first_position > out->end_position)
        return TR_PART_BAD_COUNTS;
    if (bytes[SECTION_STREAMS] != (uint64_t)STREAM_ENTRY_BYTES * out->streams ||
        bytes[SECTION_ORDINALS] != 8ull * out->documents ||
        bytes[SECTION_CREATED] != 8ull * out->documents ||
        bytes[SECTION_LENGTHS] != 4ull * out->documents ||
        bytes[SECTION_DOCUMENT_STREAMS] != 4ull * out->documents ||
        bytes[SECTION_TYPES] != (uint64_t)TERM_ENTRY_BYTES * out->types ||
        bytes[SECTION_TERMS] != (uint64_t)TERM_ENTRY_BYTES * out->terms)
        return TR_PART_BAD_COUNTS;
    out->postings = section[SECTION_POSTINGS];
    out->postings_bytes = bytes[SECTION_POSTINGS];
    out->stream_table = section[SECTION_STREAMS];
    out->ordinals = (const uint64_t *)section[SECTION_ORDINALS];
    out->created = (const int64_t *)section[SECTION_CREATED];
    out->lengths = (const uint32_t *)section[SECTION_LENGTHS];
    out->document_streams = (const uint32_t *)section[SECTION_DOCUMENT_STREAMS];
    out->type_table = section[SECTION_TYPES];
    out->term_table = section[SECTION_TERMS];
    out->names = section[SECTION_NAMES];
    out->names_bytes = bytes[SECTION_NAMES];
    if (check_streams(out))
        return TR_PART_BAD_STREAMS;
    if (check_dictionary(out, out->type_table, out->types, 0))
        return TR_PART_BAD_TYPES;
    if (check_dictionary(out, out->term_table, out->terms, 1))
        return TR_PART_BAD_TERMS;
    return 0;
}
