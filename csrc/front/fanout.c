#include "fanout.h"

#include <errno.h>
#include <sys/socket.h>

uint32_t tr_fanout_send(const int32_t *descriptors, uint32_t count, const uint8_t *data,
                        uint64_t length, struct tr_fanout_short *shorts)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        ssize_t sent;
        do
            sent = send(descriptors[i], data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent >= 0 && (uint64_t)sent == length)
            continue;
        shorts[found].index = i;
        shorts[found].sent = sent < 0 ? 0 : (uint64_t)sent;
        found++;
    }
    return found;
}
