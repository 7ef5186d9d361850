#include "heads.h"

#include <stdlib.h>
#include <string.h>

#include "heads_table.inc"

enum { HEADS_MAX = 1 << 20, PLACES_PER_HEAD = 4 };

static uint64_t rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static uint64_t load(const uint8_t *p, uint32_t count)
{
    uint64_t value = 0;
    for (uint32_t i = count; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"). */
static uint64_t hash_of(const struct tr_heads *heads, const uint8_t *key, uint32_t length)
{
    uint64_t v[4] = {
        heads->seed[0] ^ UINT64_C(0x736f6d6570736575),
        heads->seed[1] ^ UINT64_C(0x646f72616e646f6d),
        heads->seed[0] ^ UINT64_C(0x6c7967656e657261),
        heads->seed[1] ^ UINT64_C(0x7465646279746573),
    };
    uint32_t at = 0;
    for (; at + 8 <= length; at += 8) {
        const uint64_t word = load(key + at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    const uint64_t last = (uint64_t)length << 56 | load(key + at, length - at);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct tr_heads *tr_heads_new(uint32_t heads_max, uint32_t key_max, const uint8_t *seed)
{
    if (heads_max == 0 || heads_max > HEADS_MAX || key_max == 0 || key_max > TR_HEAD_KEY_MAX)
        return NULL;
    struct tr_heads *heads = calloc(1, sizeof *heads);
    if (heads == NULL)
        return NULL;
    uint32_t places = 1;
    while (places < heads_max * PLACES_PER_HEAD)
        places *= 2;
    heads->heads_max = heads_max;
    heads->key_max = key_max;
    heads->mask = places - 1;
    heads->seed[0] = load(seed, 8);
    heads->seed[1] = load(seed + 8, 8);
    heads->places = calloc(places, sizeof *heads->places);
    heads->heads = calloc((size_t)heads_max + 1, sizeof *heads->heads);
    heads->groups = calloc((size_t)heads_max + 1, sizeof *heads->groups);
    if (heads->places == NULL || heads->heads == NULL || heads->groups == NULL) {
        tr_heads_free(heads);
        return NULL;
    }
    return heads;
}

void tr_heads_free(struct tr_heads *heads)
{
    if (heads->heads != NULL && heads->places != NULL)
        tr_heads_clear(heads);
    free(heads->places);
    free(heads->heads);
    free(heads->groups);
    free(heads);
}

void tr_heads_clear(struct tr_heads *heads)
{
    for (uint32_t i = 1; i <= heads->heads_max; i++)
        free(heads->heads[i].key);
    memset(heads->heads, 0, ((size_t)heads->heads_max + 1) * sizeof *heads->heads);
    memset(heads->places, 0, ((size_t)heads->mask + 1) * sizeof *heads->places);
}

/* The place of a key, or the free one where it would be put. */
static uint32_t place_of(const struct tr_heads *heads, uint64_t hash, const uint8_t *key,
                         uint32_t length)
{
    uint32_t place = (uint32_t)hash & heads->mask;
    for (; heads->places[place] != 0; place = (place + 1) & heads->mask) {
        const struct head *head = &heads->heads[heads->places[place]];
        if (head->hash == hash && head->key_length == length &&
            memcmp(head->key, key, length) == 0)
            break;
    }
    return place;
}

static void drop(struct tr_heads *heads, uint32_t number)
{
    struct head *head = &heads->heads[number];
    if (head->key == NULL)
        return;
    uint32_t hole = place_of(heads, head->hash, head->key, head->key_length);
    /* Who stands behind the hole only because it was taken moves up. */
    for (uint32_t place = hole;;) {
        place = (place + 1) & heads->mask;
        const uint32_t other = heads->places[place];
        if (other == 0)
            break;
        const uint32_t home = (uint32_t)heads->heads[other].hash & heads->mask;
        if (((place - home) & heads->mask) >= ((place - hole) & heads->mask)) {
            heads->places[hole] = other;
            hole = place;
        }
    }
    heads->places[hole] = 0;
    free(head->key);
    memset(head, 0, sizeof *head);
}

int32_t tr_heads_put(struct tr_heads *heads, uint32_t number, const uint8_t *key,
                     uint32_t key_length, const struct tr_head_lane *lane)
{
    if (number == 0 || number > heads->heads_max)
        return 0;
    drop(heads, number);
    if (key_length == 0 || key_length > heads->key_max || lane->lane > heads->heads_max)
        return 0;
    const uint64_t hash = hash_of(heads, key, key_length);
    const uint32_t place = place_of(heads, hash, key, key_length);
    if (heads->places[place] != 0)
        return 0;
    uint8_t *copy = malloc(key_length);
    if (copy == NULL)
        return 0;
    memcpy(copy, key, key_length);
    heads->heads[number] =
        (struct head){.hash = hash, .key = copy, .key_length = key_length, .lane = *lane};
    heads->places[place] = number;
    return 1;
}

uint32_t tr_heads_find(const struct tr_heads *heads, const uint8_t *head, uint32_t length,
                       struct tr_hole one, struct tr_hole other)
{
    uint8_t joined[TR_HEAD_KEY_MAX];
    if (one.length == 0)
        one.at = length;
    if (other.length == 0)
        other.at = length;
    const struct tr_hole first = one.at <= other.at ? one : other;
    const struct tr_hole second = one.at <= other.at ? other : one;
    if (second.length > length || second.at > length - second.length ||
        first.length > second.at - first.at)
        return 0;
    const uint32_t key_length = length - first.length - second.length;
    if (key_length > heads->key_max)
        return 0;
    const uint8_t *key = head;
    if (key_length != length) {
        const uint32_t between = first.at + first.length, behind = second.at + second.length;
        uint8_t *end = joined;
        memcpy(end, head, first.at);
        end += first.at;
        memcpy(end, head + between, second.at - between);
        end += second.at - between;
        memcpy(end, head + behind, length - behind);
        key = joined;
    }
    return heads->places[place_of(heads, hash_of(heads, key, key_length), key, key_length)];
}
