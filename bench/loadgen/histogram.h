/* Counts of durations with a bounded relative error, for percentiles of millions of them. */
#ifndef LG_HISTOGRAM_H
#define LG_HISTOGRAM_H
#include <stdint.h>

/* 64 buckets for every power of two: a bucket is at most 1.6 % wide. */
#define LG_HISTOGRAM_BUCKETS 2304

/* The bucket of a duration in nanoseconds, in [0, LG_HISTOGRAM_BUCKETS). */
uint32_t lg_bucket(int64_t ns);

/* The greatest duration, in nanoseconds, that falls into a bucket. */
int64_t lg_bucket_top(uint32_t bucket);
#endif
