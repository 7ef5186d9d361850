#define _GNU_SOURCE
#include "client.h"
#include "histogram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

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
