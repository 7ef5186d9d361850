#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dice.h"
#include "reactor_stress.h"
#include "stress_messages.h"

/* What nobody may ever receive. */
static size_t stale_answer(uint8_t *out)
{
    static const char text[] = "HTTP/1.1 599 Not For You\r\nContent-Length: 0\r\n\r\n";
    memcpy(out, text, sizeof text - 1);
    return sizeof text - 1;
}

void make_form(struct tr_form *form)
{
    static const uint32_t holes[] = {TR_HOLE_STREAM, TR_HOLE_TAIL, TR_HOLE_NONE};
    *form = (struct tr_form){.piece_count = 3};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t length = (uint32_t)strlen(FORM_PIECES[i]);
        form->pieces[i] = (struct tr_form_piece){length, holes[i], i == 1 ? 8 : 0};
        memcpy(form->bytes + form->byte_count, FORM_PIECES[i], length);
        form->byte_count += length;
    }
}

/* Their requests have been answered. */
static void bury(const uint64_t *handles, uint32_t count)
{
    pthread_mutex_lock(&shared.lock);
    for (uint32_t i = 0; i < count; i++)
        shared.dead[shared.dead_count++ % DEAD_MAX] = handles[i];
    pthread_mutex_unlock(&shared.lock);
}

/* A handle that is nobody's. */
static uint64_t dead_handle(uint64_t other, uint64_t *dice)
{
    pthread_mutex_lock(&shared.lock);
    uint32_t dead = shared.dead_count < DEAD_MAX ? shared.dead_count : DEAD_MAX;
    uint64_t handle = dead && roll(dice, 2) ? shared.dead[roll(dice, dead)]
                                            : other - (UINT64_C(1) << 32);
    pthread_mutex_unlock(&shared.lock);
    return handle;
}

/* Send these rows their form, with groups between that are stale or get nothing. */
static void answer_rows(const struct job *jobs, uint32_t count, uint64_t *dice)
{
    uint64_t handles[4 * BATCH_MAX], ids[2 * BATCH_MAX], firsts[2 * BATCH_MAX];
    uint64_t others[2 * BATCH_MAX] = {0};
    uint32_t counts[2 * BATCH_MAX], tails[4 * BATCH_MAX], groups = 0, used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (roll(dice, 3) == 0) {
            int nobody = roll(dice, 2) != 0;
            ids[groups] = nobody ? 0 : 0x599;
            firsts[groups] = 1;
            counts[groups] = 1 + (uint32_t)roll(dice, 3);
            for (uint32_t j = 0; j < counts[groups]; j++) {
                tails[used] = (uint32_t)roll(dice, 9);
                handles[used++] = nobody ? jobs[roll(dice, count)].handle
                                         : dead_handle(jobs[i].handle, dice);
            }
            groups++;
        }
        ids[groups] = jobs[i].id;
        tails[used] = (uint32_t)roll(dice, 9);
        firsts[groups] = (uint64_t)jobs[i].number + 1 - tails[used];
        counts[groups++] = 1;
        handles[used++] = jobs[i].handle;
    }
    if (tr_reactor_answer_rows(shared.reactor, &shared.form, handles, tails, used, ids, firsts,
                               others, others, counts, groups) != count)
        broken("a row's answer found its connection gone, or a stale one found one");
    bury(handles, used);
}

/* An answer in memory of its own, which is its token. */
struct held {
    uint32_t count;
    uint8_t *pieces[PIECES_MAX];
};

static void free_held(struct held *held)
{
    for (uint32_t i = 0; i < held->count; i++)
        free(held->pieces[i]);
    free(held);
    pthread_mutex_lock(&shared.lock);
    shared.held--;
    pthread_mutex_unlock(&shared.lock);
}

void free_released(void)
{
    uint64_t tokens[3];
    uint32_t found;
    do {
        found = tr_reactor_released(shared.reactor, tokens, 3);
        for (uint32_t i = 0; i < found; i++)
            free_held((struct held *)(uintptr_t)tokens[i]);
    } while (found == 3);
}

static void answer_pieces(const struct job *job, uint64_t *dice, const uint8_t *data,
                          size_t length)
{
    struct held *held = calloc(1, sizeof *held);
    struct tr_span *spans = malloc(PIECES_MAX * sizeof *spans);
    assert(held && spans);
    held->count = 1 + (uint32_t)roll(dice, PIECES_MAX);
    for (uint32_t i = 0; i < held->count; i++) {
        size_t size = i + 1 == held->count ? length : roll(dice, length + 1);
        held->pieces[i] = malloc(size);
        assert(held->pieces[i] || size == 0);
        if (size != 0)
            memcpy(held->pieces[i], data, size);
        spans[i] = (struct tr_span){held->pieces[i], size};
        data += size;
        length -= size;
    }
    pthread_mutex_lock(&shared.lock);
    shared.held++;
    pthread_mutex_unlock(&shared.lock);
    uint64_t token = (uint64_t)(uintptr_t)held;
    uint8_t flags = job->keep_alive ? 0 : TR_ANSWER_CLOSE;
    if (roll(dice, 4) == 0 &&
        tr_reactor_answer_pieces(shared.reactor, dead_handle(job->handle, dice), spans,
                                 held->count, flags, token) != TR_PIECES_STALE)
        broken("a stale answer in pieces found a connection");
    int32_t found = tr_reactor_answer_pieces(shared.reactor, job->handle, spans, held->count,
                                             flags, token);
    free(spans);
    if (found == TR_PIECES_STALE)
        broken("an answer in pieces found its connection gone");
    if (found == TR_PIECES_OVER)
        free_held(held);
}

void answer(struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob)
{
    uint64_t handles[2 * BATCH_MAX], ends[2 * BATCH_MAX];
    uint8_t flags[2 * BATCH_MAX];
    uint32_t used = 0, live = 0, row_count = 0;
    size_t length = 0;
    struct job rows[BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = i + (uint32_t)roll(dice, count - i);
        struct job job = jobs[other];
        jobs[other] = jobs[i];
        if (job.records && roll(dice, 8)) {
            rows[row_count++] = job;
            continue;
        }
        if (roll(dice, 2)) {
            handles[used] = dead_handle(job.handle, dice);
            length += stale_answer(blob + length);
            flags[used] = (uint8_t)roll(dice, 2);
            ends[used++] = length;
        }
        size_t own = answer_make(job.id, job.number, blob + length);
        if (roll(dice, 3) == 0) {
            answer_pieces(&job, dice, blob + length, own);
            continue;
        }
        length += own;
        handles[used] = job.handle;
        flags[used] = job.keep_alive ? 0 : TR_ANSWER_CLOSE;
        ends[used++] = length;
        live++;
    }
    if (used != 0) {
        if (tr_reactor_answer(shared.reactor, handles, ends, flags, used, blob, length) != live)
            broken("an answer found its connection gone, or a stale one found one");
        bury(handles, used);
    }
    if (row_count)
        answer_rows(rows, row_count, dice);
}

void answer_alike(const struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob)
{
    uint64_t handles[2 * CROWD_MAX], ends[CROWD_MAX + 1];
    uint32_t which[2 * CROWD_MAX], used = 0, pieces = 1;
    uint8_t flags[CROWD_MAX + 1];
    int64_t common[COMMON_ANSWERS][2];
    memset(common, -1, sizeof common);
    size_t length = stale_answer(blob);
    ends[0] = length;
    flags[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct job *job = &jobs[i];
        const int shared_with = answer_common(job->id, job->number);
        int64_t *known = shared_with < 0 ? NULL : &common[shared_with][job->keep_alive != 0];
        if (roll(dice, 4) == 0) {
            handles[used] = job->handle - (UINT64_C(1) << 32);
            which[used++] = 0;
        }
        handles[used] = job->handle;
        if (known && *known >= 0) {
            which[used++] = (uint32_t)*known;
            continue;
        }
        length += answer_make(job->id, job->number, blob + length);
        flags[pieces] = job->keep_alive ? 0 : TR_ANSWER_CLOSE;
        ends[pieces] = length;
        if (known)
            *known = pieces;
        which[used++] = pieces++;
    }
    if (tr_reactor_answer_alike(shared.reactor, handles, which, used, ends, flags, pieces, blob,
                                length) != count)
        broken("an answer found its parked connection gone, or a stale one found one");
    bury(handles, used);
}

uint8_t *blob_new(void)
{
    uint8_t *blob = malloc((size_t)(CROWD_MAX + 1) * (ANSWER_BYTES_MAX + 64));
    assert(blob);
    return blob;
}

void *answerer_main(void *argument)
{
    uint64_t dice = *(uint64_t *)argument;
    uint8_t *blob = blob_new();
    struct job batch[BATCH_MAX], crowd[CROWD_MAX];
    for (;;) {
        uint32_t count = 0;
        pthread_mutex_lock(&shared.lock);
        while (shared.job_count == 0 && shared.crowd_count == 0 && !shared.stop)
            pthread_cond_wait(&shared.wake, &shared.lock);
        uint32_t crowd_count = shared.crowd_count;
        memcpy(crowd, shared.crowd, crowd_count * sizeof *crowd);
        shared.crowd_count = 0;
        while (shared.job_count > 0 && count < BATCH_MAX)
            batch[count++] = shared.jobs[--shared.job_count];
        int stop = shared.stop;
        pthread_mutex_unlock(&shared.lock);
        if (crowd_count)
            answer_alike(crowd, crowd_count, &dice, blob);
        if (count == 0 && stop)
            break;
        if (count == 0)
            continue;
        if (roll(&dice, 2))
            pause_ms(roll(&dice, 3));
        char peer[64];
        int32_t peer_length = tr_reactor_peer(shared.reactor, batch[0].handle, peer, sizeof peer);
        if (peer_length >= 0 && strcmp(peer, "127.0.0.1") != 0)
            broken("a peer that is none");
        answer(batch, count, &dice, blob);
    }
    free(blob);
    return NULL;
}
