#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTING_MAX 128

int64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

lg_group *
group_of(run *r, connection *c)
{
    return &r->plan->groups[c->group];
}

int
subscribes(const lg_group *g)
{
    return g->kind == LG_SSE || g->kind == LG_LONG_POLL;
}

int
in_window(run *r, int64_t ns)
{
    return ns >= r->window_ns && ns < r->end_ns;
}

void *
zeros(uint64_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL)
        abort();
    return memory;
}

int
is_due(const lg_group *g, const connection *c)
{
    return g->rate > 0 && c->turn < c->granted;
}

/* ---- giving up ------------------------------------------------------------------- */

void
leave(run *r, connection *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->state != OVER) {
        if (c->state == FRESH)
            r->fresh--;
        if (c->state == FRESH || c->state == CONNECTING)
            r->unconnected--;
        c->state = OVER;
        r->open--;
    }
}

void
now_ready(run *r, connection *c)
{
    if (subscribes(group_of(r, c)) && !c->ready) {
        c->ready = 1;
        r->unready--;
    }
}

void
give_up(run *r, connection *c, int kind, const void *text, uint32_t length)
{
    lg_group *g = group_of(r, c);
    if (g->error_text[0] == '\0' && length > 0) {
        uint32_t part = length < sizeof g->error_text - 1 ? length : sizeof g->error_text - 1;
        memcpy(g->error_text, text, part);
    }
    g->errors[kind]++;
    now_ready(r, c);
    leave(r, c);
}

/* ---- sending --------------------------------------------------------------------- */

static void
watch(run *r, connection *c, int write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0),
                                .data.u64 = (uint64_t)(c - r->all)};
    epoll_ctl(r->epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->want_write = (uint8_t)write;
}

void
flush(run *r, connection *c)
{
    while (c->out_sent < c->out_length) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            if (!c->want_write)
                watch(r, c, 1);
            return;
        }
        if (sent < 0) {
            const char *why = strerror(errno);
            give_up(r, c, LG_E_CLOSED, why, (uint32_t)strlen(why));
            return;
        }
        c->out_sent += (uint32_t)sent;
    }
    if (c->want_write)
        watch(r, c, 0);
}

/* ---- connecting ------------------------------------------------------------------ */

static void
dial(run *r, connection *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)r->plan->port),
                                  .sin_addr.s_addr = htonl(r->plan->address)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT,
                                .data.u64 = (uint64_t)(c - r->all)};
    int one = 1;
    if (c->state == FRESH)
        r->fresh--;
    c->state = CONNECTING;
    c->want_write = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0
        || (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0
            && errno != EINPROGRESS)
        || epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        const char *why = strerror(errno);
        give_up(r, c, LG_E_CONNECT, why, (uint32_t)strlen(why));
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void
dial_some(run *r)
{
    for (uint32_t i = 0; i < r->length && r->fresh > 0; i++) {
        if (r->unconnected - r->fresh >= CONNECTING_MAX)
            return;
        if (r->all[i].state == FRESH)
            dial(r, &r->all[i]);
    }
}

void
connected(run *r, connection *c)
{
    lg_group *g = group_of(r, c);
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        const char *why = strerror(error);
        give_up(r, c, LG_E_CONNECT, why, (uint32_t)strlen(why));
        return;
    }
    watch(r, c, 0);
    c->state = IDLE;
    r->unconnected--;
    if (subscribes(g)) {
        ask(r, c, now_ns());
        if (g->kind == LG_LONG_POLL)
            now_ready(r, c);
    } else {
        go_on(r, c, now_ns());
    }
}

void
dial_again(run *r, connection *c)
{
    close(c->fd);
    group_of(r, c)->reconnects++;
    r->unconnected++;
    dial(r, c);
}
