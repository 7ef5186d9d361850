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

#include "dice.h"
#include "stress_messages.h"

enum {
    CLIENTS_MAX = 1024,
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

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
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
    client->ending = endings[roll(dice, sizeof endings / sizeof *endings)];
    client->reset = roll(dice, 3) == 0;
    client->pieces = roll(dice, 4) == 0;
    client->wanted = (uint32_t)roll(dice, roll(dice, 4) ? 6 : 60);
    client->depth = 1 + (uint32_t)roll(dice, DEPTH_MAX);
    client->leave_at = 1 + roll(dice, roll(dice, 2) ? 2000 : 200000);
    client->moved_at = now();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail(client, "no socket");
    if (roll(dice, 2)) { /* the server must send in parts */
        int size = 4096 << roll(dice, 3);
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
    if (client->pieces && roll(&client->dice, 4))
        size = 1 + roll(&client->dice, size < 60 ? size : 60);
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
        size = 1 + roll(&client->dice, 700);
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
        /* The farewell comes last, perhaps before all of the odd request was sent. */
        int expected = client->said_farewell ||
                       (whole && (client->ending == HALF_CLOSE || client->ending == ASK_CLOSE));
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
        if (whole || roll(&client->dice, 30) == 0)
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
            if (client->fd < 0 && coming && roll(&seed, 4) == 0)
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
                !(client->pieces && roll(&client->dice, 3)))
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
