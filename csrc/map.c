#define _DEFAULT_SOURCE
#include "map.h"

#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

void *tr_map(int descriptor, uint64_t length) {
    assert(length > 0);
    void *data = mmap(0, length, PROT_READ, MAP_SHARED, descriptor, 0);
    return data == MAP_FAILED ? 0 : data;
}

void tr_unmap(void *data, uint64_t length) {
    int failed = munmap(data, length);
    assert(!failed);
    (void)failed;
}

void tr_map_release(void *data, uint64_t start, uint64_t stop) {
    start -= start % (uint64_t)sysconf(_SC_PAGESIZE);
    if (start >= stop)
        return;
    int failed = madvise((char *)data + start, stop - start, MADV_DONTNEED);
    assert(!failed);
    (void)failed;
}
