#ifndef TAILRACE_WRITE_OUT_H
#define TAILRACE_WRITE_OUT_H
#include <stdint.h>

/* Have the kernel write what it holds of these bytes of an open file, and wait until it has, so
   that it never gathers much. Says nothing about durability: the disk may hold it in a cache, and
   errors are told by the sync that follows. The bytes stay in the page cache. */
void tr_write_out(int descriptor, uint64_t start, uint64_t length);

#endif
