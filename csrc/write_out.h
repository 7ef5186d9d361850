#ifndef TAILRACE_WRITE_OUT_H
#define TAILRACE_WRITE_OUT_H
#include <stdint.h>

/* Have the kernel write what it holds of these bytes of an open file, and wait until it has, so
   that it never gathers much. Says nothing about durability: the disk may hold it in a cache. The
   bytes stay in the page cache.

   An errno, or 0: all is written, or that cannot be done here and is left to the sync. Linux tells
   of a write that failed once for each descriptor: what is told here, no sync tells again. */
int32_t tr_write_out(int descriptor, uint64_t start, uint64_t length);

#endif
