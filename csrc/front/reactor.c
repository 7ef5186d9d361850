#define _GNU_SOURCE /* accept4 */
#include "reactor.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "http_request.h"

_Static_assert(sizeof(struct tr_row_field) == sizeof(struct tr_http_field), "one shape");
_Static_assert(sizeof(struct tr_row) == 72, "Python unpacks rows");

#include "reactor_slots.inc"

enum { EVENTS_PER_POLL = 256, ACCEPTS_PER_POLL = 64, WAITING_BYTES_FIRST = 1024 };

struct tr_reactor *tr_reactor_new(const struct tr_reactor_limits *limits)
{
    if (limits->head_max == 0 || limits->receive_max == 0 || limits->connections_max == 0 ||
        limits->connections_max >= NOBODY || limits->head_max > (1u << 24) ||
        limits->body_max > (1u << 24) || limits->receive_max > (1u << 24)) {
        errno = EINVAL;
        return NULL;
    }
    struct tr_reactor *reactor = calloc(1, sizeof *reactor);
    if (reactor == NULL)
        return NULL;
    reactor->limits = *limits;
    reactor->http = (struct tr_http_limits){
        .head_max = limits->head_max,
        .body_max = limits->body_max,
        .fields_max = limits->fields_max,
    };
    reactor->request_max = limits->head_max + limits->body_max;
    reactor->bodies_max = UINT64_MAX;
    reactor->free = NOBODY;
    reactor->ready.first = reactor->leaving.first = reactor->resuming.first = NOBODY;
    reactor->slots = calloc(limits->connections_max, sizeof *reactor->slots);
    reactor->epoll = epoll_create1(EPOLL_CLOEXEC);
    reactor->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = BELL};
    if (reactor->slots == NULL || reactor->epoll < 0 || reactor->bell < 0 ||
        epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, reactor->bell, &event) != 0 ||
        pthread_mutex_init(&reactor->lock, NULL) != 0) {
        const int why = errno;
        if (reactor->epoll >= 0)
            close(reactor->epoll);
        if (reactor->bell >= 0)
            close(reactor->bell);
        free(reactor->slots);
        free(reactor);
        errno = why;
        return NULL;
    }
    return reactor;
}

static void forget_listeners(struct tr_reactor *reactor)
{
    for (uint32_t i = 0; i < reactor->listener_count; i++)
        epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, reactor->listeners[i], NULL);
    reactor->listener_count = 0;
}

void tr_reactor_close(struct tr_reactor *reactor)
{
    pthread_mutex_lock(&reactor->lock);
    reactor->closed = 1;
    forget_listeners(reactor);
    reactor->ready.first = reactor->leaving.first = reactor->resuming.first = NOBODY;
    for (uint32_t i = 0; i < reactor->slots_used; i++) {
        struct connection *c = &reactor->slots[i];
        if (c->state == FREE || c->state == SENDING)
            continue; /* whoever is sending ends it */
        c->state = IDLE;
        end(reactor, c);
    }
    pthread_mutex_unlock(&reactor->lock);
}

void tr_reactor_free(struct tr_reactor *reactor)
{
    tr_reactor_close(reactor);
    assert(reactor->counters.open == 0);
    close(reactor->epoll);
    close(reactor->bell);
    pthread_mutex_destroy(&reactor->lock);
    while (reactor->released != NULL) {
        struct rest *rest = reactor->released;
        reactor->released = rest->next;
        free(rest);
    }
    free(reactor->slots);
    free(reactor);
}

int32_t tr_reactor_descriptor(struct tr_reactor *reactor)
{
    return reactor->epoll;
}

int32_t tr_reactor_listen(struct tr_reactor *reactor, int32_t descriptor)
{
    int32_t why = 0;
    pthread_mutex_lock(&reactor->lock);
    if (reactor->listener_count == TR_LISTENERS_MAX || reactor->draining || reactor->closed) {
        why = ENOSPC;
    } else {
        struct epoll_event event = {.events = EPOLLIN,
                                    .data.u64 = LISTENER(reactor->listener_count)};
        if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, descriptor, &event) != 0)
            why = errno;
        else
            reactor->listeners[reactor->listener_count++] = descriptor;
    }
    pthread_mutex_unlock(&reactor->lock);
    return why;
}

uint64_t tr_reactor_arena_min(const struct tr_reactor_limits *limits)
{
    const uint64_t request = (uint64_t)limits->head_max + limits->body_max;
    return request > limits->receive_max ? request : limits->receive_max;
}

/* Where one poll puts what it finds. */
struct sink {
    uint8_t *arena;
    uint64_t arena_capacity;
    struct tr_row *rows;
    uint32_t rows_capacity;
    struct tr_row_field *fields;
    uint32_t fields_capacity;
    struct tr_polled *used;
};

static int has_space(const struct tr_reactor *reactor, const struct sink *sink)
{
    return sink->used->rows < sink->rows_capacity &&
           sink->fields_capacity - sink->used->fields >= TR_HTTP_FIELDS_MAX &&
           sink->arena_capacity - sink->used->arena >= tr_reactor_arena_min(&reactor->limits);
}

/* A row for the request whose bytes, or whose head's, begin at the end of the arena's used part. */
static void emit(const struct tr_reactor *reactor, struct connection *c,
                 const struct tr_http_request *request, uint32_t kind, struct sink *sink)
{
    struct tr_polled *used = sink->used;
    const uint32_t body_length = kind == TR_ROW_REQUEST ? request->body_length : 0;
    c->head_told = kind == TR_ROW_HEAD;
    sink->rows[used->rows++] = (struct tr_row){
        .handle = handle_of(reactor, c),
        .kind = kind,
        .method = request->method,
        .keep_alive = request->keep_alive,
        .head = used->arena,
        .head_length = request->head_length,
        .body_length = body_length,
        .target = request->target,
        .target_length = request->target_length,
        .first_field = used->fields,
        .field_count = request->field_count,
        .length_value = request->length_value,
        .length_value_length = request->length_value_length,
        .seq_value = request->seq_value,
        .seq_value_length = request->seq_value_length,
    };
    memcpy(sink->fields + used->fields, request->fields,
           request->field_count * sizeof request->fields[0]);
    used->fields += request->field_count;
    used->arena += request->head_length + body_length;
}

enum outcome { WAIT, OUT, OFFER, END, AGAIN };

/* The rest of a request is still to come. Its head alone may say how it is answered. */
static enum outcome await_rest(const struct tr_reactor *reactor, struct connection *c,
                               const struct tr_http_request *request, struct sink *sink)
{
    if (request->head_length != 0 && !c->head_told) {
        const uint8_t *head = c->waiting + c->waiting_start;
        memcpy(sink->arena + sink->used->arena, head, request->head_length);
        emit(reactor, c, request, TR_ROW_HEAD, sink);
    }
    return WAIT;
}

/* Goes on with bytes that wait, until they are a request or the kernel has no more. */
static enum outcome go_on(struct tr_reactor *reactor, struct connection *c, struct sink *sink)
{
    struct tr_http_request request;
    for (;;) {
        const uint8_t *data = c->waiting + c->waiting_start;
        const int32_t found = tr_http_parse(data, c->waiting_length, &reactor->http, &request);
        if (found == TR_HTTP_OTHER)
            return OFFER;
        const uint32_t whole = request.head_length + request.body_length;
        if (request.head_length != 0 && !hold_body(reactor, c, request.body_length))
            return OFFER;
        if (found == TR_HTTP_COMPLETE) {
            memcpy(sink->arena + sink->used->arena, data, whole);
            emit(reactor, c, &request, TR_ROW_REQUEST, sink);
            c->waiting_start += whole;
            c->waiting_length -= whole;
            if (c->waiting_length == 0)
                drop_waiting(c);
            return OUT;
        }
        if (!c->readable)
            return await_rest(reactor, c, &request, sink);
        uint32_t want;
        if (request.head_length != 0) {
            want = whole - c->waiting_length;
        } else {
            const uint32_t left = reactor->limits.head_max - c->waiting_length;
            want = c->waiting_length > WAITING_BYTES_FIRST ? c->waiting_length
                                                           : WAITING_BYTES_FIRST;
            want = want < left ? want : left;
        }
        assert(want > 0 && c->waiting_length + want <= reactor->request_max);
        if (!reserve(c, want))
            return END;
        const int64_t got = receive(c, c->waiting + c->waiting_length, want);
        if (got < 0)
            return END;
        if (got == 0)
            return await_rest(reactor, c, &request, sink);
        c->waiting_length += (uint32_t)got;
    }
}

/* Reads what a connection has, at most up to one whole request. */
static enum outcome advance(struct tr_reactor *reactor, struct connection *c, struct sink *sink)
{
    if (c->waiting_length != 0)
        return go_on(reactor, c, sink);
    if (!c->readable)
        return WAIT;
    uint8_t *data = sink->arena + sink->used->arena;
    const int64_t got = receive(c, data, reactor->limits.receive_max);
    if (got <= 0)
        return got < 0 ? END : WAIT;
    struct tr_http_request request;
    const int32_t found = tr_http_parse(data, (uint64_t)got, &reactor->http, &request);
    if (found == TR_HTTP_COMPLETE && hold_body(reactor, c, request.body_length)) {
        const uint32_t whole = request.head_length + request.body_length;
        emit(reactor, c, &request, TR_ROW_REQUEST, sink);
        return keep(c, data + whole, (uint32_t)got - whole) ? OUT : END;
    }
    if (!keep(c, data, (uint32_t)got))
        return END;
    c->since_ms = now_ms();
    if (found == TR_HTTP_OTHER)
        return OFFER;
    return go_on(reactor, c, sink);
}

static void conclude(struct tr_reactor *reactor, struct connection *c, enum outcome outcome)
{
    switch (outcome) {
    case WAIT:
        c->state = IDLE;
        if (reactor->draining) {
            if (c->waiting_length != 0)
                offer(reactor, c);
            else
                end(reactor, c);
        }
        break;
    case OUT:
        reactor->counters.requests++;
        c->state = BUSY;
        break;
    case OFFER:
        offer(reactor, c);
        break;
    case END:
        end(reactor, c);
        break;
    case AGAIN:
        queue(reactor, &reactor->ready, c, READY);
        break;
    }
}

#include "reactor_accept.inc"

/* Notes that a connection's client left, and tells if somebody waits to hear it. There is a row. */
static void note_end(struct tr_reactor *reactor, struct connection *c, int broken,
                     struct sink *sink)
{
    const uint32_t before = left_as(c);
    c->half_closed = 1;
    c->broken |= (uint8_t)broken;
    if (c->state != BUSY || !c->parked || left_as(c) == before)
        return;
    reactor->counters.departed++;
    sink->rows[sink->used->rows++] =
        (struct tr_row){.handle = handle_of(reactor, c), .kind = left_as(c)};
}

/* Notes what epoll tells and gathers the connections that have something to read. There are as
   many rows as events. */
static uint32_t gather(struct tr_reactor *reactor, const struct epoll_event *events, int count,
                       struct list *work, struct sink *sink)
{
    uint32_t callers = 0;
    pthread_mutex_lock(&reactor->lock);
    for (int i = 0; i < count; i++) {
        const uint64_t value = events[i].data.u64;
        if (value == BELL) {
            uint64_t rings;
            const ssize_t got = read(reactor->bell, &rings, sizeof rings);
            (void)got;
        } else if (value <= TR_LISTENERS_MAX) {
            callers |= UINT32_C(1) << (value - LISTENER(0));
        } else {
            struct connection *c = find_watched(reactor, value);
            if (c == NULL)
                continue;
            const uint32_t what = events[i].events;
            if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                note_end(reactor, c, (what & (EPOLLHUP | EPOLLERR)) != 0, sink);
            if (c->state == STALLED && what & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
                c->state = RESUMING;
                push(reactor, &reactor->resuming, c);
            }
            if (what == EPOLLOUT)
                continue;
            c->readable = 1;
            if (c->state == IDLE) {
                c->state = READING;
                push(reactor, work, c);
            }
        }
    }
    struct connection *c;
    while ((c = pop(reactor, &reactor->ready)) != NULL) {
        c->state = READING;
        push(reactor, work, c);
    }
    pthread_mutex_unlock(&reactor->lock);
    return callers;
}

/* Tells of the connections to be taken, as far as there are rows. 1 if there are pieces that are
   not needed any more. */
static uint32_t offer_rows(struct tr_reactor *reactor, struct sink *sink)
{
    pthread_mutex_lock(&reactor->lock);
    struct connection *c;
    while (sink->used->rows < sink->rows_capacity &&
           (c = pop(reactor, &reactor->leaving)) != NULL) {
        c->state = OFFERED;
        sink->rows[sink->used->rows++] =
            (struct tr_row){.handle = handle_of(reactor, c), .kind = TR_ROW_HANDOVER};
    }
    if (reactor->leaving.first != NOBODY)
        ring(reactor);
    const uint32_t released = reactor->released != NULL;
    pthread_mutex_unlock(&reactor->lock);
    return released;
}

#include "reactor_answer.inc"
#include "reactor_pieces.inc"

void tr_reactor_poll(struct tr_reactor *reactor, uint64_t room, uint8_t *arena,
                     uint64_t arena_capacity, struct tr_row *rows, uint32_t rows_capacity,
                     struct tr_row_field *fields, uint32_t fields_capacity,
                     struct tr_polled *out)
{
    struct epoll_event events[EVENTS_PER_POLL];
    struct sink sink = {arena, arena_capacity, rows, rows_capacity, fields, fields_capacity, out};
    struct list work = {NOBODY, NOBODY};
    struct connection *c;

    *out = (struct tr_polled){0};
    const int most = rows_capacity < EVENTS_PER_POLL ? (int)rows_capacity : EVENTS_PER_POLL;
    const int count = epoll_wait(reactor->epoll, events, most, 0);
    const uint32_t callers = gather(reactor, events, count, &work, &sink);
    while ((c = pop(reactor, &work)) != NULL) {
        const enum outcome outcome =
            has_space(reactor, &sink) ? advance(reactor, c, &sink) : AGAIN;
        pthread_mutex_lock(&reactor->lock);
        conclude(reactor, c, outcome);
        pthread_mutex_unlock(&reactor->lock);
    }
    for (uint32_t i = 0; i < reactor->listener_count; i++)
        if (callers & UINT32_C(1) << i)
            for (int accepted = 0; accepted < ACCEPTS_PER_POLL; accepted++)
                if (!accept_one(reactor, reactor->listeners[i], room, &sink))
                    break;
    if (out->accept_error != 0)
        watch_listeners(reactor, 0);
    resume(reactor);
    out->released = offer_rows(reactor, &sink);
}

#include "reactor_life.inc"
