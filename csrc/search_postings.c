#include "search_postings.h"
#include "search_postings.inc"

#define COOKIE_NO_RUNS 12346u
#define COOKIE_RUNS 12347u
#define OFFSETS_FROM 4u /* with the run cookie, fewer containers carry no offset header */
#define ARRAY_MAX 4096u

int tr_bitmap_open(struct tr_bitmap *bitmap, const uint8_t *data, uint64_t length)
{
    if (length < 4 || length > UINT32_MAX)
        return -1;
    uint64_t position;
    uint32_t cookie = load32(data);
    bitmap->data = data;
    bitmap->length = (uint32_t)length;
    bitmap->next = 0;
    bitmap->rank = 0;
    bitmap->run_flags = NULL;
    if ((cookie & 0xffff) == COOKIE_RUNS) {
        bitmap->containers = (cookie >> 16) + 1;
        bitmap->run_flags = data + 4;
        position = 4 + (bitmap->containers + 7) / 8;
    } else if (cookie == COOKIE_NO_RUNS) {
        if (length < 8)
            return -1;
        bitmap->containers = load32(data + 4);
        if (bitmap->containers > 65536)
            return -1;
        position = 8;
    } else {
        return -1;
    }
    if (position + 4ull * bitmap->containers > length)
        return -1;
    bitmap->headers = data + position;
    position += 4ull * bitmap->containers;
    if (!bitmap->run_flags || bitmap->containers >= OFFSETS_FROM)
        position += 4ull * bitmap->containers;
    if (position > length)
        return -1;
    bitmap->position = (uint32_t)position;
    return 0;
}

int tr_bitmap_next(struct tr_bitmap *bitmap, struct tr_container *out)
{
    uint32_t i = bitmap->next;
    if (i == bitmap->containers)
        return bitmap->position == bitmap->length ? 0 : -1;
    const uint8_t *header = bitmap->headers + 4ull * i;
    uint32_t left = bitmap->length - bitmap->position;
    uint32_t bytes;
    out->key = load16(header);
    if (i > 0 && load16(header - 4) >= out->key)
        return -1;
    out->cardinality = load16(header + 2) + 1u;
    out->data = bitmap->data + bitmap->position;
    out->rank = bitmap->rank;
    out->runs = 0;
    if (bitmap->run_flags && (bitmap->run_flags[i / 8] >> (i % 8)) & 1) {
        if (left < 2)
            return -1;
        out->kind = RUN_CONTAINER;
        out->runs = load16(out->data);
        bytes = 2 + 4 * out->runs;
        if (left < bytes)
            return -1;
        /* Ranks count on the cardinality, so it must be what the runs hold. */
        uint32_t total = 0;
        int64_t last = -1;
        for (uint32_t r = 0; r < out->runs; r++) {
            uint32_t start = load16(out->data + 2 + 4 * r);
            uint32_t more = load16(out->data + 4 + 4 * r);
            if ((int64_t)start <= last || start + more > 65535)
                return -1;
            last = start + more;
            total += more + 1;
        }
        if (total != out->cardinality)
            return -1;
    } else if (out->cardinality <= ARRAY_MAX) {
        out->kind = ARRAY_CONTAINER;
        bytes = 2 * out->cardinality;
        if (left < bytes)
            return -1;
    } else {
        out->kind = BITMAP_CONTAINER;
        bytes = 8 * BITMAP_WORDS;
        if (left < bytes)
            return -1;
    }
    bitmap->position += bytes;
    bitmap->rank += out->cardinality;
    bitmap->next++;
    return 1;
}

int64_t tr_roaring_decode(const uint8_t *data, uint64_t length, uint32_t *ids, uint64_t capacity)
{
    struct tr_bitmap bitmap;
    struct tr_container container;
    uint64_t used = 0;
    int status;
    if (tr_bitmap_open(&bitmap, data, length))
        return -1;
    while ((status = tr_bitmap_next(&bitmap, &container)) == 1) {
        uint32_t base = container.key << 16;
        uint64_t begin = used;
        if (capacity - used < container.cardinality)
            return -2;
        if (container.kind == ARRAY_CONTAINER) {
            int32_t last = -1;
            for (uint32_t i = 0; i < container.cardinality; i++) {
                uint16_t low = load16(container.data + 2 * i);
                if (low <= last)
                    return -1;
                last = low;
                ids[used++] = base | low;
            }
        } else if (container.kind == BITMAP_CONTAINER) {
            for (uint32_t w = 0; w < BITMAP_WORDS; w++) {
                uint64_t word = load64(container.data + 8 * w);
                for (; word; word &= word - 1) {
                    if (used - begin == container.cardinality)
                        return -1;
                    ids[used++] = base | (w * 64 + (uint32_t)__builtin_ctzll(word));
                }
            }
            if (used - begin != container.cardinality)
                return -1;
        } else {
            for (uint32_t r = 0; r < container.runs; r++) {
                uint32_t start = load16(container.data + 2 + 4 * r);
                uint32_t more = load16(container.data + 4 + 4 * r);
                for (uint32_t i = 0; i <= more; i++)
                    ids[used++] = base | (start + i);
            }
        }
    }
    return status < 0 ? -1 : (int64_t)used;
}

struct shape {
    uint64_t end;   /* behind the container's last id in the input */
    uint32_t count;
    uint32_t runs;
    enum container_kind kind;
    uint32_t bytes;
};

static struct shape shape_at(const uint32_t *ids, uint64_t count, uint64_t begin)
{
    struct shape shape = {begin + 1, 1, 1, ARRAY_CONTAINER, 0};
    uint32_t key = ids[begin] >> 16;
    while (shape.end < count && ids[shape.end] >> 16 == key) {
        shape.runs += ids[shape.end] != ids[shape.end - 1] + 1;
        shape.end++;
    }
    shape.count = (uint32_t)(shape.end - begin);
    if (shape.count > ARRAY_MAX) {
        shape.kind = BITMAP_CONTAINER;
        shape.bytes = 8 * BITMAP_WORDS;
    } else {
        shape.bytes = 2 * shape.count;
    }
    if (2 + 4 * shape.runs < shape.bytes) {
        shape.kind = RUN_CONTAINER;
        shape.bytes = 2 + 4 * shape.runs;
    }
    return shape;
}

struct layout {
    uint32_t containers;
    int has_runs;
    int has_offsets;
    uint64_t header_bytes;
    uint64_t bytes;
};

static struct layout layout_of(const uint32_t *ids, uint64_t count)
{
    struct layout layout = {0, 0, 0, 0, 0};
    uint64_t begin = 0;
    while (begin < count) {
        struct shape shape = shape_at(ids, count, begin);
        layout.containers++;
        layout.has_runs |= shape.kind == RUN_CONTAINER;
        layout.bytes += shape.bytes;
        begin = shape.end;
    }
    layout.has_offsets = !layout.has_runs || layout.containers >= OFFSETS_FROM;
    layout.header_bytes = layout.has_runs ? 4 + (layout.containers + 7) / 8 : 8;
    layout.header_bytes += (layout.has_offsets ? 8ull : 4ull) * layout.containers;
    layout.bytes += layout.header_bytes;
    return layout;
}

uint64_t tr_roaring_bytes(const uint32_t *ids, uint64_t count)
{
    return layout_of(ids, count).bytes;
}

static void store16(uint8_t *p, uint32_t value)
{
    uint16_t narrow = (uint16_t)value;
    memcpy(p, &narrow, sizeof narrow);
}

static void store32(uint8_t *p, uint32_t value)
{
    memcpy(p, &value, sizeof value);
}

static void write_container(uint8_t *out, const uint32_t *ids, const struct shape *shape)
{
    if (shape->kind == ARRAY_CONTAINER) {
        for (uint32_t i = 0; i < shape->count; i++)
            store16(out + 2 * i, ids[i] & 0xffff);
    } else if (shape->kind == BITMAP_CONTAINER) {
        memset(out, 0, 8 * BITMAP_WORDS);
        for (uint32_t i = 0; i < shape->count; i++) {
            uint32_t low = ids[i] & 0xffff;
            out[low / 8] |= (uint8_t)(1u << (low % 8));
        }
    } else {
        uint32_t run = 0;
        uint32_t i = 0;
        store16(out, shape->runs);
        while (i < shape->count) {
            uint32_t start = i;
            while (i + 1 < shape->count && ids[i + 1] == ids[i] + 1)
                i++;
            store16(out + 2 + 4 * run, ids[start] & 0xffff);
            store16(out + 4 + 4 * run, i - start);
            run++;
            i++;
        }
    }
}

int64_t tr_roaring_encode(const uint32_t *ids, uint64_t count, uint8_t *out, uint64_t capacity)
{
    struct layout layout = layout_of(ids, count);
    if (layout.bytes > capacity)
        return -1;
    uint8_t *flags = NULL;
    uint8_t *headers;
    if (layout.has_runs) {
        store32(out, COOKIE_RUNS | ((layout.containers - 1) << 16));
        flags = out + 4;
        memset(flags, 0, (layout.containers + 7) / 8);
        headers = flags + (layout.containers + 7) / 8;
    } else {
        store32(out, COOKIE_NO_RUNS);
        store32(out + 4, layout.containers);
        headers = out + 8;
    }
    uint8_t *offsets = headers + 4ull * layout.containers;
    uint64_t position = layout.header_bytes;
    uint64_t begin = 0;
    for (uint32_t i = 0; begin < count; i++) {
        struct shape shape = shape_at(ids, count, begin);
        store16(headers + 4 * i, ids[begin] >> 16);
        store16(headers + 4 * i + 2, shape.count - 1);
        if (shape.kind == RUN_CONTAINER)
            flags[i / 8] |= (uint8_t)(1u << (i % 8));
        if (layout.has_offsets)
            store32(offsets + 4 * i, (uint32_t)position);
        write_container(out + position, ids + begin, &shape);
        position += shape.bytes;
        begin = shape.end;
    }
    return (int64_t)layout.bytes;
}
