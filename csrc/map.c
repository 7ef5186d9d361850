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

enum { PAGES_AT_ONCE = 256 };

int32_t tr_map_resident(const void *data, uint64_t start, uint64_t stop) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uintptr_t at = (uintptr_t)data + start;
    const uintptr_t end = (uintptr_t)data + stop;
    at -= at % page;
    while (at < end) {
        unsigned char found[PAGES_AT_ONCE];
        uint64_t pages = (end - at + page - 1) / page;
        if (pages > PAGES_AT_ONCE)
            pages = PAGES_AT_ONCE;
        if (mincore((void *)at, pages * page, found) != 0)
            return 0;
        for (uint64_t i = 0; i < pages; i++)
            if (!(found[i] & 1))
                return 0;
        at += pages * page;
    }
    return 1;
}
