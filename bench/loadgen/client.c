#define _GNU_SOURCE
#include "client.h"

#include "histogram.h"
#include "producer.h"

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
#define SEQUENCE_DIGITS 8
#define TIME_DIGITS 19

_Static_assert(STAMP_BYTES == SEQUENCE_DIGITS + 1 + TIME_DIGITS, "a stamp is a number and a time");

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

static int
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

static void
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

/* A subscriber is being served, or will never be. */
static void
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

static uint8_t *
put(uint8_t *at, const void *bytes, uint32_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static void
digits(uint8_t *at, int count, uint64_t value)
{
    while (count-- > 0) {
        at[count] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

static const uint8_t *
slice(const uint8_t *bytes, const uint32_t *ends, uint32_t index, uint32_t *length)
{
    uint32_t start = index == 0 ? 0 : ends[index - 1];
    *length = ends[index] - start;
    return bytes + start;
}

static void
ask(run *r, connection *c, int64_t intended_ns)
{
    lg_group *g = group_of(r, c);
    uint32_t head_length, body_length = 0;
    const uint8_t *body = NULL;
    const uint8_t *head = slice(g->heads, g->head_ends, c->target, &head_length);
    if (g->bodies > 0) {
        uint64_t which = g->once ? c->target : c->number * 131ull + c->turn;
        body = slice(g->body_bytes, g->body_ends, (uint32_t)(which % g->bodies), &body_length);
    }
    uint32_t need = head_length + body_length + g->tail_length + 2 * LG_TOKEN_BYTES_MAX
                    + PRODUCER_BYTES_MAX + 16;
    if (need > c->out_room) {
        free(c->out);
        c->out_room = need;
        c->out = zeros(need, 1);
    }
    uint8_t *at = put(c->out, head, head_length);
    if (g->producer_epoch >= 0) { /* before the empty line */
        uint64_t sequence = lg_producer_sequence(g->targets, g->connections, c->turn);
        at = lg_producer_fields(at - 2, c->number, (uint64_t)g->producer_epoch, sequence);
        at = put(at, "\r\n", 2);
    }
    if (g->kind != LG_REQUEST) {
        at = put(at, c->offset, c->offset_length);
        if (c->cursor_length > 0) {
            at = put(at, "&cursor=", 8);
            at = put(at, c->cursor, c->cursor_length);
        }
        at = put(at, g->tail, g->tail_length);
    }
    if (body_length > 0) {
        if (g->stamp_at != UINT32_MAX) {
            uint8_t *stamp = at + g->stamp_at;
            put(at, body, body_length);
            digits(stamp, SEQUENCE_DIGITS, r->sequences[c->group][c->target]++);
            stamp[SEQUENCE_DIGITS] = '-';
            digits(stamp + SEQUENCE_DIGITS + 1, TIME_DIGITS, (uint64_t)intended_ns);
            at += body_length;
        } else {
            at = put(at, body, body_length);
        }
    }
    c->out_length = (uint32_t)(at - c->out);
    c->out_sent = 0;
    c->intended_ns = intended_ns;
    c->answers_left = g->answers;
    c->matched = c->collected = 0;
    c->turn++;
    c->state = WAITING;
    r->asked[c->group]++;
    lg_answer_begin(&c->in);
    flush(r, c);
}

void
rewind_to(lg_group *g, connection *c, uint64_t target)
{
    c->target = (uint32_t)target;
    c->cursor_length = 0;
    if (g->kind != LG_REQUEST) {
        const uint8_t *start = slice(g->starts, g->start_ends, c->target, &c->offset_length);
        memcpy(c->offset, start, c->offset_length);
    }
}

/* An idle connection sends what is due, or is done. */
void
go_on(run *r, connection *c, int64_t now)
{
    lg_group *g = group_of(r, c);
    int64_t intended = now;
    if (g->steps > 0 && r->asked[c->group] >= g->steps)
        return;
    if (g->rate > 0) {
        /* What was due before the end is sent after it, too: else a slow server would be
           asked less, and the requests that waited longest would be in no histogram. */
        if (!is_due(g, c))
            return;
        double number = (double)(c->turn * g->connections + c->number);
        intended = r->start_ns + (int64_t)(number * 1e9 / g->rate);
    }
    if (g->rate <= 0 && !r->sending)
        return;
    if (g->kind == LG_REQUEST) {
        uint64_t target = c->number + c->turn * g->connections;
        if (g->once && target >= g->targets) {
            leave(r, c);
            return;
        }
        rewind_to(g, c, target % g->targets);
    }
    ask(r, c, intended);
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

/* The server has ended a connection that owed nothing: take another. */
static void
dial_again(run *r, connection *c)
{
    close(c->fd);
    group_of(r, c)->reconnects++;
    r->unconnected++;
    dial(r, c);
}

/* ---- receiving ------------------------------------------------------------------- */

static int
stamp_seen(run *r, connection *c, int64_t now)
{
    lg_group *g = group_of(r, c);
    uint64_t sequence = 0;
    int64_t sent_ns = 0;
    for (int i = 0; i < SEQUENCE_DIGITS; i++)
        sequence = sequence * 10 + (uint64_t)(c->stamp[i] - '0');
    for (int i = SEQUENCE_DIGITS + 1; i < STAMP_BYTES; i++)
        sent_ns = sent_ns * 10 + (c->stamp[i] - '0');
    g->received[c->number]++;
    if (in_window(r, sent_ns)) {
        g->units++;
        g->histogram[lg_bucket(now - sent_ns)]++;
    }
    return sequence == c->next_sequence++;
}

/* Look for the marker in a piece of a body; 0 if what is behind it is out of order. */
static int
scan(run *r, connection *c, const uint8_t *data, uint32_t length, int64_t now)
{
    lg_group *g = group_of(r, c);
    uint32_t i = 0;
    while (i < length) {
        if (c->matched == 0) {
            const uint8_t *found = memchr(data + i, g->marker[0], length - i);
            if (found == NULL)
                return 1;
            i = (uint32_t)(found - data) + 1;
            c->matched = 1;
        } else if (c->matched < g->marker_length) {
            if (data[i] == g->marker[c->matched]) {
                c->matched++;
                i++;
            } else {
                c->matched = 0;
                continue;
            }
        } else {
            c->stamp[c->collected++] = (char)data[i++];
            if (c->collected == STAMP_BYTES) {
                c->collected = c->matched = 0;
                g->found[c->target]++;
                if (!stamp_seen(r, c, now))
                    return 0;
            }
            continue;
        }
        if (c->matched == g->marker_length && !g->stamped) {
            g->found[c->target]++;
            c->matched = 0;
        }
    }
    return 1;
}

static void
answered(run *r, connection *c, int64_t now)
{
    lg_group *g = group_of(r, c);
    int closing = c->in.closing;
    int whole = g->kind == LG_REQUEST || (g->kind == LG_FOLLOW && c->in.up_to_date);
    g->acknowledged[c->target]++;
    if (g->kind != LG_REQUEST) {
        if (c->in.offset_length == 0) {
            static const char text[] = "an answer has no Stream-Next-Offset";
            give_up(r, c, LG_E_FRAMING, text, sizeof text - 1);
            return;
        }
        memcpy(c->offset, c->in.offset, c->in.offset_length);
        memcpy(c->cursor, c->in.cursor, c->in.cursor_length);
        c->offset_length = c->in.offset_length;
        c->cursor_length = c->in.cursor_length;
        char *end = g->ends + (size_t)c->target * LG_TOKEN_BYTES_MAX;
        memcpy(end, c->offset, c->offset_length);
        end[c->offset_length] = '\0';
    }
    if (g->answers > 1 && --c->answers_left > 0) {
        if (in_window(r, now))
            g->units++;
        lg_answer_begin(&c->in);
        return;
    }
    c->state = IDLE;
    if (whole) {
        if (in_window(r, now))
            g->units++;
        if (in_window(r, g->rate > 0 ? c->intended_ns : now))
            g->histogram[lg_bucket(now - c->intended_ns)]++;
    }
    if (g->kind == LG_FOLLOW && whole) {
        uint64_t next = g->once ? (uint64_t)c->target + g->connections
                                : (c->target + g->connections) % g->targets;
        if (next >= g->targets) {
            leave(r, c);
            return;
        }
        rewind_to(g, c, next);
        if (closing)
            dial_again(r, c);
        else
            go_on(r, c, now);
    } else if (closing) {
        dial_again(r, c);
    } else if (g->kind == LG_FOLLOW || g->kind == LG_LONG_POLL) {
        ask(r, c, g->kind == LG_FOLLOW ? c->intended_ns : now);
    } else {
        go_on(r, c, now);
    }
}

static int
status_is_fine(const lg_group *g, const lg_answer *a)
{
    return (uint32_t)a->status == g->status_a || (uint32_t)a->status == g->status_b;
}

void
receive(run *r, connection *c)
{
    lg_group *g = group_of(r, c);
    ssize_t got = recv(c->fd, r->buffer, RECEIVE_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        const char *why = got < 0 ? strerror(errno) : "the server closed the connection";
        if (c->state == IDLE && g->kind == LG_REQUEST && got == 0)
            dial_again(r, c);
        else
            give_up(r, c, LG_E_CLOSED, why, (uint32_t)strlen(why));
        return;
    }
    int64_t now = now_ns();
    const uint8_t *data = r->buffer, *body;
    uint32_t left = (uint32_t)got, used, body_length;
    for (;;) {
        if (c->state == IDLE || c->state == OVER || c->state == CONNECTING) {
            if (left > 0 && c->state == IDLE)
                give_up(r, c, LG_E_FRAMING, data, left);
            return;
        }
        int what = g->wire == LG_HTTP
                       ? lg_http_read(&c->in, data, left, &used, &body, &body_length)
                       : lg_resp_read(&c->in, data, left, &used, &body, &body_length);
        if (what == LG_MALFORMED) {
            give_up(r, c, LG_E_FRAMING, data, left);
            return;
        }
        if ((what == LG_HEAD_READ || what == LG_DONE || g->wire == LG_RESP)
            && c->in.status != 0 && !status_is_fine(g, &c->in)) {
            give_up(r, c, LG_E_STATUS, data, left);
            return;
        }
        data += used;
        left -= used;
        if (what == LG_MORE)
            return;
        if (what == LG_HEAD_READ && g->kind == LG_SSE)
            now_ready(r, c);
        if (what == LG_BODY) {
            if (in_window(r, now))
                g->body_length += body_length;
            if (g->marker_length > 0 && !scan(r, c, body, body_length, now)) {
                give_up(r, c, LG_E_ORDER, body, body_length);
                return;
            }
        }
        if (what == LG_DONE) {
            if (g->kind == LG_SSE) {
                static const char text[] = "the event stream was ended";
                give_up(r, c, LG_E_CLOSED, text, sizeof text - 1);
                return;
            }
            if (left > 0 && c->answers_left <= 1) {
                give_up(r, c, LG_E_FRAMING, data, left);
                return;
            }
            answered(r, c, now);
        }
    }
}
