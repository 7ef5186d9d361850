#include "checksum.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reversed 0x1EDC6F41 */

static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ ((value & 1) ? POLYNOMIAL : 0);
        table[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, 8);
    return value;
}

uint32_t tr_crc32c_portable(const uint8_t *data, uint64_t length, uint32_t crc)
{
    crc = ~crc;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (length >= 8) {
        uint64_t word = load64(data) ^ crc;
        crc = table[7][word & 0xff] ^ table[6][(word >> 8) & 0xff] ^
              table[5][(word >> 16) & 0xff] ^ table[4][(word >> 24) & 0xff] ^
              table[3][(word >> 32) & 0xff] ^ table[2][(word >> 40) & 0xff] ^
              table[1][(word >> 48) & 0xff] ^ table[0][word >> 56];
        data += 8;
        length -= 8;
    }
#endif
    while (length--)
        crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

/* The instruction has a latency of 3 cycles and a throughput of 1, so long inputs run as three
   lanes. A lane's result is moved past the bytes behind it by a table of "append LANE zero bytes",
   which is linear over GF(2) and so needs one entry per byte value. */
#define LANE 1024u

static uint32_t shift_table[4][256];
static int has_instruction;

static uint32_t append_zeros(uint32_t crc, uint32_t count)
{
    while (count--)
        crc = (crc >> 8) ^ table[0][crc & 0xff];
    return crc;
}

/* Before any thread can ask; and before fill_table is called, which has no priority. */
__attribute__((constructor(200))) static void prepare(void)
{
    __builtin_cpu_init();
    has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    fill_table();
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t i = 0; i < 256; i++)
            shift_table[byte][i] = append_zeros(i << (8 * byte), LANE);
}

static uint32_t shift_lane(uint32_t crc)
{
    return shift_table[0][crc & 0xff] ^ shift_table[1][(crc >> 8) & 0xff] ^
           shift_table[2][(crc >> 16) & 0xff] ^ shift_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(const uint8_t *data,
                                                               uint64_t length, uint32_t crc)
{
    uint64_t a = ~crc;
    while (length >= 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (uint32_t i = 0; i < LANE; i += 8) {
            a = _mm_crc32_u64(a, load64(data + i));
            b = _mm_crc32_u64(b, load64(data + LANE + i));
            c = _mm_crc32_u64(c, load64(data + 2 * LANE + i));
        }
        a = shift_lane((uint32_t)a) ^ b;
        a = shift_lane((uint32_t)a) ^ c;
        data += 3 * LANE;
        length -= 3 * LANE;
    }
    while (length >= 8) {
        a = _mm_crc32_u64(a, load64(data));
        data += 8;
        length -= 8;
    }
    while (length--)
        a = _mm_crc32_u8((uint32_t)a, *data++);
    return ~(uint32_t)a;
}

uint32_t tr_crc32c(const uint8_t *data, uint64_t length, uint32_t crc)
{
    return has_instruction ? crc32c_sse42(data, length, crc)
                           : tr_crc32c_portable(data, length, crc);
}

#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>

uint32_t tr_crc32c(const uint8_t *data, uint64_t length, uint32_t crc)
{
    crc = ~crc;
    while (length >= 8) {
        crc = __crc32cd(crc, load64(data));
        data += 8;
        length -= 8;
    }
    while (length--)
        crc = __crc32cb(crc, *data++);
    return ~crc;
}

#else

uint32_t tr_crc32c(const uint8_t *data, uint64_t length, uint32_t crc)
{
    return tr_crc32c_portable(data, length, crc);
}

#endif
