#include "fanout_clients.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dice.h"

enum { NOISE_BYTES = 256 * 1024, RECEIVE_MAX = 16 * 1024, SIP_MAX = 50, STALL_TURNS_MAX = 300 };

struct listener {
    int descriptor;
    uint32_t stream;
    uint64_t dice;
    uint64_t message; /* the one it is getting */
    uint64_t at;      /* bytes of it that came */
    uint64_t stalled_until;
};

static struct {
    pthread_mutex_t lock;
    struct listener *all[CLIENTS_MAX];
    uint32_t count;
    uint64_t turn;
    struct listeners_counts counts;
    uint8_t noise[NOISE_BYTES];
} crowd = {.lock = PTHREAD_MUTEX_INITIALIZER};

void broken(const char *what)
{
    fprintf(stderr, "fanout: %s\n", what);
    exit(1);
}

/* ---- messages */

void messages_new(uint64_t seed)
{
    for (size_t i = 0; i < NOISE_BYTES; i++)
        crowd.noise[i] = (uint8_t)dice_next(&seed);
}

static uint64_t key_of(uint32_t stream, uint64_t message)
{
    uint64_t seed = message * STREAMS + stream;
    return dice_next(&seed);
}

uint64_t message_length(uint32_t stream, uint64_t message)
{
    const uint64_t key = key_of(stream, message);
    if (key % 64 == 0)
        return 0;
    return 1 + (key >> 8) % (key % 16 == 1 ? MESSAGE_MAX : 600);
}

const uint8_t *message_bytes(uint32_t stream, uint64_t message)
{
    return crowd.noise + (key_of(stream, message) >> 32) % (NOISE_BYTES - MESSAGE_MAX);
}

/* ---- clients */

void listeners_add(int descriptor, uint32_t stream, uint64_t message, uint64_t seed)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        broken("no memory");
    *listener = (struct listener){
        .descriptor = descriptor, .stream = stream, .message = message, .dice = seed};
    pthread_mutex_lock(&crowd.lock);
    if (crowd.count == CLIENTS_MAX)
        broken("too many clients");
    crowd.all[crowd.count++] = listener;
    pthread_mutex_unlock(&crowd.lock);
}

static void check(struct listener *listener, const uint8_t *data, size_t length)
{
    while (length > 0) {
        const uint64_t left =
            message_length(listener->stream, listener->message) - listener->at;
        const size_t part = length < left ? length : left;
        if (memcmp(data, message_bytes(listener->stream, listener->message) + listener->at,
                   part) != 0)
            broken("a byte that is not its own");
        data += part;
        length -= part;
        listener->at += part;
        if (part == left) {
            listener->message++;
            listener->at = 0;
        }
    }
}

/* The stream has ended: between two messages and, if its client was not cut off, behind all. */
static void check_end(struct listener *listener, const uint64_t *totals)
{
    if (listener->at != 0)
        broken("a stream ends within a message");
    if (totals != NULL) {
        const uint64_t total = totals[listener->stream];
        while (listener->message < total &&
               message_length(listener->stream, listener->message) == 0)
            listener->message++;
        if (listener->message == total)
            return;
    }
    crowd.counts.ended++;
}

/* 0 when the client has left, or has been left. */
static int turn(struct listener *listener, const uint64_t *totals)
{
    static uint8_t buffer[RECEIVE_MAX];
    if (totals == NULL) {
        if (listener->stalled_until > crowd.turn)
            return 1;
        const uint64_t fate = roll(&listener->dice, 2000);
        if (fate < 3) {
            const struct linger reset = {1, 0};
            if (fate == 0)
                setsockopt(listener->descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            crowd.counts.left++;
            return 0;
        }
        if (fate < 30)
            listener->stalled_until = crowd.turn + 1 + roll(&listener->dice, STALL_TURNS_MAX);
    }
    const size_t most = roll(&listener->dice, 4) ? RECEIVE_MAX : SIP_MAX;
    const ssize_t got = recv(listener->descriptor, buffer, 1 + roll(&listener->dice, most), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (got < 0)
        broken("a connection was reset that its client did not leave");
    if (got == 0) {
        check_end(listener, totals);
        return 0;
    }
    crowd.counts.received += (uint64_t)got;
    check(listener, buffer, (size_t)got);
    return 1;
}

uint32_t listeners_turn(const uint64_t *totals)
{
    pthread_mutex_lock(&crowd.lock);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < crowd.count; i++) {
        struct listener *listener = crowd.all[i];
        if (turn(listener, totals)) {
            crowd.all[kept++] = listener;
        } else {
            close(listener->descriptor);
            free(listener);
        }
    }
    crowd.count = kept;
    crowd.turn++;
    pthread_mutex_unlock(&crowd.lock);
    return kept;
}

struct listeners_counts listeners_counts(void)
{
    return crowd.counts;
}
