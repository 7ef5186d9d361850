#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include "stress_clients.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CLIENTS_MAX = 1024,
    HEAD_MAX = 256,
    PIECE_MAX = 64 * 1024,
    DEPTH_MAX = 12,
    FINISH_S = 1,   /* those that are still talking so long after the end leave as they are */
    STALLED_S = 20, /* a client that waits for its answers so long has been forgotten */
};

/* How a connection ends. */
enum ending {
    READ_ALL,
    HALF_CLOSE,
    LEAVE_SENDING,
    LEAVE_RECEIVING,
    LEAVE_IDLE,
    HAND_OVER,
    ASK_CLOSE
};

struct client {
    int fd; /* -1: not connected */
    uint64_t id;
    uint64_t dice;
    enum ending ending;
    int reset;  /* leaves with RST */
    int pieces; /* sends and reads a little at a time */
    int saw_end;
    uint32_t wanted;   /* requests to be sent in all, without the odd one */
    uint32_t depth;    /* requests that may be unanswered */
    uint32_t made;     /* requests put into out */
    uint32_t answered; /* answers received whole */
    int said_farewell;
    uint64_t leave_at; /* after so many bytes sent, or received */
    uint64_t sent;
    uint64_t received;
    double moved_at;
    uint8_t *out;
    size_t out_length;
    size_t out_at;
    uint8_t *answer; /* the one that is expected now */
    size_t answer_length;
    size_t answer_at;
};

uint64_t dice_next(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *dice, uint64_t bound)
{
    return dice_next(dice) % bound;
}

static uint64_t mix(uint64_t id, uint32_t number, uint64_t salt)
{
    uint64_t seed = (id * 0x100000001b3u + number) * 8 + salt;
    return dice_next(&seed);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fill(uint8_t *out, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(seed >> (8 * (i % 7))) ^ (uint8_t)(i / 7);
}

static size_t body_length(uint64_t id, uint32_t number)
{
    uint64_t size = mix(id, number, 1);
    if (size % 100 < 85)
        return (size >> 8) % 400;
    return (size >> 8) % (REQUEST_BYTES_MAX - HEAD_MAX);
}

static size_t answer_body_length(uint64_t id, uint32_t number)
{
    uint64_t size = mix(id, number, 2);
    if (size % 100 < 85)
        return (size >> 8) % 500;
    return (size >> 8) % (ANSWER_BYTES_MAX - HEAD_MAX);
}

const char *const FORM_PIECES[3] = {"HTTP/1.1 204 No Content\r\nETag: \"", ":", "\"\r\n\r\n"};

int is_record(uint64_t id, uint32_t number)
{
    return mix(id, number, 5) % 3 == 0;
}

int record_head_make(uint32_t lane, const char *digits, const char *seq, char *out,
                     size_t capacity)
{
    const char *form = lane % 2
                           ? "POST /lane/%u HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n"
                             "Producer-Seq: %s\r\n\r\n"
                           : "POST /lane/%u HTTP/1.1\r\nProducer-Seq: %s\r\nHost: a\r\n"
                             "Content-Length: %s\r\n\r\n";
    return snprintf(out, capacity, form, lane, lane % 2 ? digits : seq, lane % 2 ? seq : digits);
}

/* Some have a space before them, which makes them nothing for a lane. */
static int record_make(uint64_t id, uint32_t number, char *out, size_t capacity)
{
    return snprintf(out, capacity, "%s{\"id\":\"%016llx\",\"number\":\"%08x\"}",
                    mix(id, number, 6) % 8 ? "" : " ", (unsigned long long)id, number);
}

int record_read(const uint8_t *record, size_t length, uint64_t *id, uint32_t *number)
{
    char text[HEAD_MAX], again[HEAD_MAX];
    unsigned long long found;
    if (length >= sizeof text)
        return 0;
    memcpy(text, record, length);
    text[length] = 0;
    if (sscanf(text, " {\"id\":\"%16llx\",\"number\":\"%8x\"}", &found, number) != 2)
        return 0;
    *id = found;
    record_make(*id, *number, again, sizeof again);
    return is_record(*id, *number) && strcmp(text, again) == 0;
}

static size_t request_make(uint64_t id, uint32_t number, int last, uint8_t *out)
{
    if (is_record(id, number)) {
        char record[HEAD_MAX], digits[48], seq[16];
        int size = record_make(id, number, record, sizeof record);
        snprintf(digits, sizeof digits, "%d%s", size, last ? "\r\nConnection: close" : "");
        snprintf(seq, sizeof seq, "%u", number);
        int head = record_head_make((uint32_t)mix(id, number, 7) % LANES, digits, seq,
                                    (char *)out, HEAD_MAX);
        assert(head > 0 && head < HEAD_MAX);
        memcpy(out + head, record, (size_t)size);
        return (size_t)(head + size);
    }
    size_t length = body_length(id, number);
    const char *method = length == 0 ? "GET" : "POST";
    char framing[48] = "";
    if (length)
        snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", length);
    const char *closing = last ? "Connection: close\r\n" : "";
    int head = snprintf((char *)out, HEAD_MAX, "%s /%016llx/%08x HTTP/1.1\r\nHost: a\r\n%s%s\r\n",
                        method, (unsigned long long)id, number, closing, framing);
    assert(head > 0 && head < HEAD_MAX);
    fill(out + head, length, mix(id, number, 3));
    return (size_t)head + length;
}

/* One that no plain parser takes. */
static size_t odd_request_make(uint64_t id, uint32_t number, uint8_t *out)
{
    int length =
        snprintf((char *)out, HEAD_MAX,
                 "POST /%016llx/%08x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "1\r\nx\r\n0\r\n\r\n",
                 (unsigned long long)id, number);
    assert(length > 0 && length < HEAD_MAX);
    return (size_t)length;
}

static int path_read(const char *path, uint64_t *id, uint32_t *number)
{
    unsigned long long found_id;
    int end = 0;
    if (sscanf(path, "/%16llx/%8x%n", &found_id, number, &end) != 2 || end != 26)
        return 0;
    *id = found_id;
    return 1;
}

int request_read(const uint8_t *path, size_t path_length, const uint8_t *body, size_t length,
                 uint64_t *id, uint32_t *number)
{
    static _Thread_local uint8_t wanted[REQUEST_BYTES_MAX];
    char text[27];
    if (path_length > 6 && memcmp(path, "/lane/", 6) == 0)
        return record_read(body, length, id, number);
    if (path_length != sizeof text - 1)
        return 0;
    memcpy(text, path, path_length);
    text[path_length] = 0;
    if (!path_read(text, id, number) || is_record(*id, *number) ||
        body_length(*id, *number) != length)
        return 0;
    fill(wanted, length, mix(*id, *number, 3));
    return length == 0 || memcmp(wanted, body, length) == 0;
}

int answer_common(uint64_t id, uint32_t number)
{
    uint64_t found = mix(id, number, 0) % (3 * COMMON_ANSWERS);
    return found < COMMON_ANSWERS && !is_record(id, number) ? (int)found : -1;
}

size_t answer_make(uint64_t id, uint32_t number, uint8_t *out)
{
    if (is_record(id, number))
        return (size_t)snprintf((char *)out, HEAD_MAX, "%s%llx%s%08u%s", FORM_PIECES[0],
                                (unsigned long long)id, FORM_PIECES[1], number + 1,
                                FORM_PIECES[2]);
    int common = answer_common(id, number);
    if (common >= 0)
        id = number = (uint32_t)common;
    size_t length = answer_body_length(id, number);
    int head = snprintf((char *)out, HEAD_MAX,
                        "HTTP/1.1 200 OK\r\nX-Id: %016llx\r\nContent-Length: %zu\r\n\r\n",
                        (unsigned long long)id, length);
    assert(head > 0 && head < HEAD_MAX);
    fill(out + head, length, mix(id, number, 4));
    return (size_t)head + length;
}

static size_t farewell_text(uint64_t id, uint32_t number, char *out)
{
    return (size_t)snprintf(out, 64, "handed over %016llx/%08x\n", (unsigned long long)id, number);
}

size_t farewell_make(const uint8_t *data, size_t length, char *out)
{
    uint8_t wanted[HEAD_MAX];
    char text[64];
    uint64_t id;
    uint32_t number;
    if (length < 31 || memcmp(data, "POST ", 5) != 0)
        return 0;
    memcpy(text, data + 5, 26);
    text[26] = 0;
    if (!path_read(text, &id, &number))
        return 0;
    size_t whole = odd_request_make(id, number, wanted);
    if (length > whole || memcmp(data, wanted, length) != 0)
        return 0;
    return farewell_text(id, number, out);
}

static void fail(const struct client *client, const char *what)
{
    fprintf(stderr,
            "client %016llx (ending %d): %s; made %u of %u, answered %u, sent %llu, received %llu, "
            "within answer %zu of %zu, leaves at %llu: %s\n",
            (unsigned long long)client->id, client->ending, what, client->made, client->wanted,
            client->answered, (unsigned long long)client->sent,
            (unsigned long long)client->received, client->answer_at, client->answer_length,
            (unsigned long long)client->leave_at, strerror(errno));
    exit(1);
}

static void leave(struct client *client)
{
    if (client->reset) {
        struct linger linger = {.l_onoff = 1};
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(client->fd);
    client->fd = -1;
}

static void enter(struct client *client, uint16_t port, uint64_t id, uint64_t *dice)
{
    static const enum ending endings[] = {READ_ALL,   READ_ALL,      READ_ALL,
                                          HALF_CLOSE, LEAVE_SENDING, LEAVE_RECEIVING,
                                          LEAVE_IDLE, HAND_OVER,     ASK_CLOSE};
    uint8_t *out = client->out, *answer = client->answer;
    memset(client, 0, sizeof *client);
    client->out = out;
    client->answer = answer;
    client->id = id;
    client->dice = dice_next(dice);
    client->ending = endings[below(dice, sizeof endings / sizeof *endings)];
    client->reset = below(dice, 3) == 0;
    client->pieces = below(dice, 4) == 0;
    client->wanted = (uint32_t)below(dice, below(dice, 4) ? 6 : 60);
    client->depth = 1 + (uint32_t)below(dice, DEPTH_MAX);
    client->leave_at = 1 + below(dice, below(dice, 2) ? 2000 : 200000);
    client->moved_at = now();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail(client, "no socket");
    if (below(dice, 2)) { /* the server must send in parts */
        int size = 4096 << below(dice, 3);
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(client, "cannot connect");
}

static int is_over(const struct client *client)
{
    return client->made == client->wanted && client->out_at == client->out_length;
}

/* Put requests into out, as many as may be unanswered. */
static void make_more(struct client *client)
{
    if (client->out_at < client->out_length)
        return;
    client->out_at = client->out_length = 0;
    while (client->made < client->wanted && client->made - client->answered < client->depth) {
        uint32_t number = client->made++;
        int last = client->ending == ASK_CLOSE && client->made == client->wanted;
        client->out_length +=
            request_make(client->id, number, last, client->out + client->out_length);
        if (client->made == client->wanted && client->ending == HAND_OVER)
            client->out_length +=
                odd_request_make(client->id, client->made, client->out + client->out_length);
    }
}

/* What it may send now, given where it wants to leave. */
static void send_some(struct client *client)
{
    make_more(client);
    size_t size = client->out_length - client->out_at;
    if (size == 0)
        return;
    if (client->pieces && below(&client->dice, 4))
        size = 1 + below(&client->dice, size < 60 ? size : 60);
    if (client->ending == LEAVE_SENDING && size > client->leave_at - client->sent)
        size = client->leave_at - client->sent;
    ssize_t sent =
        send(client->fd, client->out + client->out_at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            fail(client, "cannot send");
        return;
    }
    client->out_at += (size_t)sent;
    client->sent += (uint64_t)sent;
    client->moved_at = now();
    if (client->ending == HALF_CLOSE && is_over(client))
        shutdown(client->fd, SHUT_WR);
}

/* Make the next thing that is expected; 0 if nothing is. */
static int expect_more(struct client *client)
{
    client->answer_at = client->answer_length = 0;
    if (client->answered < client->made) {
        client->answer_length = answer_make(client->id, client->answered, client->answer);
    } else if (client->ending == HAND_OVER && client->made == client->wanted && client->wanted) {
        if (!client->said_farewell)
            client->answer_length = farewell_text(client->id, client->made, (char *)client->answer);
    }
    return client->answer_length > 0;
}

static void check(struct client *client, const uint8_t *data, size_t length,
                  struct crowd_counts *counts)
{
    client->received += length;
    counts->received += length;
    while (length > 0) {
        if (client->answer_at == client->answer_length && !expect_more(client))
            fail(client, "more bytes than it asked for");
        size_t size = client->answer_length - client->answer_at;
        if (size > length)
            size = length;
        if (memcmp(client->answer + client->answer_at, data, size) != 0) {
            fwrite(data, 1, size < 200 ? size : 200, stderr);
            fail(client, "not the answer to its request");
        }
        client->answer_at += size;
        data += size;
        length -= size;
        if (client->answer_at < client->answer_length)
            continue;
        if (client->answered < client->made) {
            client->answered++;
            counts->answers++;
        } else {
            client->said_farewell = 1;
        }
    }
}

static void receive_some(struct client *client, struct crowd_counts *counts)
{
    static uint8_t piece[PIECE_MAX];
    size_t size = sizeof piece;
    if (client->pieces)
        size = 1 + below(&client->dice, 700);
    if (client->ending == LEAVE_RECEIVING && size > client->leave_at - client->received)
        size = client->leave_at - client->received;
    ssize_t got = recv(client->fd, piece, size, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN)
            fail(client, "cannot receive");
        return;
    }
    client->moved_at = now();
    if (got == 0)
        client->saw_end = 1;
    check(client, piece, (size_t)got, counts);
}

/* Leave if it is time to. */
static void perhaps_leave(struct client *client, struct crowd_counts *counts)
{
    int whole = is_over(client) && client->answered == client->made;
    if (client->saw_end) {
        int expected = whole && ((client->ending == HAND_OVER && client->said_farewell) ||
                                 client->ending == HALF_CLOSE || client->ending == ASK_CLOSE);
        if (!expected)
            fail(client, "the connection ended before its answers");
        counts->handed += (uint64_t)client->said_farewell;
        counts->requests += client->made;
        leave(client);
        return;
    }
    switch (client->ending) {
    case READ_ALL:
        if (whole)
            leave(client);
        break;
    case LEAVE_SENDING:
        if (client->sent >= client->leave_at || whole)
            leave(client);
        break;
    case LEAVE_RECEIVING:
        if (client->received >= client->leave_at || whole)
            leave(client);
        break;
    case LEAVE_IDLE: /* at any moment */
        if (whole || below(&client->dice, 30) == 0)
            leave(client);
        break;
    case HALF_CLOSE:
    case HAND_OVER:
    case ASK_CLOSE:
        if (client->wanted == 0)
            leave(client);
        break;
    }
    if (client->fd < 0) {
        counts->requests += client->made;
        counts->left += !whole;
    } else if (now() - client->moved_at > STALLED_S) {
        fail(client, "forgotten");
    }
}

struct crowd_counts crowd_run(uint16_t port, int count, double seconds, uint64_t seed)
{
    static struct client clients[CLIENTS_MAX];
    static struct pollfd polls[CLIENTS_MAX];
    struct crowd_counts counts = {0};
    assert(count > 0 && count <= CLIENTS_MAX);
    for (int i = 0; i < count; i++) {
        clients[i].fd = -1;
        clients[i].out = malloc((size_t)(DEPTH_MAX + 1) * REQUEST_BYTES_MAX);
        clients[i].answer = malloc(ANSWER_BYTES_MAX);
        assert(clients[i].out && clients[i].answer);
    }
    const double end = now() + seconds;
    int open = 0;
    do {
        open = 0;
        int coming = now() < end;
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[i];
            if (client->fd < 0 && coming && below(&seed, 4) == 0)
                enter(client, port, (seed & ~0xffffffull) | ++counts.connections, &seed);
            open += client->fd >= 0;
            make_more(client);
            polls[i].fd = client->fd;
            polls[i].events = POLLIN | (client->out_at < client->out_length ? POLLOUT : 0);
            polls[i].revents = 0;
        }
        poll(polls, (nfds_t)count, 2);
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[i];
            if (client->fd < 0)
                continue;
            if (polls[i].revents & POLLOUT)
                send_some(client);
            /* A slow reader lets its answers pile up. */
            if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) &&
                !(client->pieces && below(&client->dice, 3)))
                receive_some(client, &counts);
            perhaps_leave(client, &counts);
            if (client->fd >= 0 && now() > end + FINISH_S) {
                counts.left++;
                leave(client);
            }
        }
    } while (open > 0 || now() < end);
    for (int i = 0; i < count; i++) {
        free(clients[i].out);
        free(clients[i].answer);
    }
    return counts;
}
