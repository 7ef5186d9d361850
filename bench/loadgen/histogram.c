#include "histogram.h"

#define BITS 6
#define PER_OCTAVE (1u << BITS)

uint32_t
lg_bucket(int64_t ns)
{
    uint64_t value = ns < 0 ? 0 : (uint64_t)ns;
    if (value < PER_OCTAVE)
        return (uint32_t)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - BITS;
    uint64_t bucket = (uint64_t)shift * PER_OCTAVE + (value >> shift);
    return bucket < LG_HISTOGRAM_BUCKETS ? (uint32_t)bucket : LG_HISTOGRAM_BUCKETS - 1;
}

int64_t
lg_bucket_top(uint32_t bucket)
{
    if (bucket < PER_OCTAVE)
        return bucket;
    unsigned shift = bucket / PER_OCTAVE - 1;
    return (int64_t)(((uint64_t)(bucket - shift * PER_OCTAVE + 1) << shift) - 1);
}
