#include "client.h"
#include "producer.h"

#include <stdlib.h>
#include <string.h>

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

void
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
