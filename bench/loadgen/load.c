#define _GNU_SOURCE
#include "load.h"

#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 512
#define SETTLE_NS (200 * 1000000LL)
#define TIMER UINT64_MAX

static double
cpu_s(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec / 1e9 : 0.0;
}

/* ---- the clock ------------------------------------------------------------------- */

static int64_t
due_ns(run *r, uint32_t group)
{
    return r->start_ns + (int64_t)((double)r->due[group] * 1e9 / r->plan->groups[group].rate);
}

/* Let those connections send whose time has come; when to be called again. */
static int64_t
tick(run *r, int64_t now)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < r->plan->groups_length && r->sending; i++) {
        lg_group *g = &r->plan->groups[i];
        if (g->rate <= 0 || (g->steps > 0 && r->due[i] >= g->steps))
            continue;
        while (due_ns(r, i) <= now && (g->steps == 0 || r->due[i] < g->steps)) {
            connection *c = &r->all[r->first[i] + r->due[i] % g->connections];
            r->due[i]++;
            c->granted++;
            if (c->state == IDLE)
                go_on(r, c, now);
        }
        if (due_ns(r, i) < next)
            next = due_ns(r, i);
    }
    return next;
}

static void
arm(run *r, int64_t at_ns)
{
    struct itimerspec spec = {.it_value = {at_ns / SECOND, at_ns % SECOND}};
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* Wait until `until_ns` at most, and deal with what happens; the time afterwards. */
static int64_t
turn_over(run *r, int64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t next = r->sending ? tick(r, now_ns()) : INT64_MAX;
    arm(r, next < until_ns ? next : until_ns);
    int count = epoll_wait(r->epoll, events, EVENTS_MAX, -1);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == TIMER) {
            uint64_t expirations;
            if (read(r->timer, &expirations, sizeof expirations) < 0)
                continue;
            continue;
        }
        connection *c = &r->all[events[i].data.u64];
        if (c->state == CONNECTING) {
            if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
                connected(r, c);
            continue;
        }
        if (c->state != OVER && (events[i].events & EPOLLOUT))
            flush(r, c);
        if (c->state != OVER && (events[i].events & ~(uint32_t)EPOLLOUT))
            receive(r, c);
        if (r->sending && i % 16 == 15)
            tick(r, now_ns());
    }
    if (r->fresh > 0)
        dial_some(r);
    return now_ns();
}

static int
owes_answer(run *r, connection *c)
{
    lg_group *g = group_of(r, c);
    return c->state != OVER && !subscribes(g)
           && (c->state == WAITING || c->state == CONNECTING || is_due(g, c));
}

/* Whether an answer is still to come, or a request that was due is still to be sent. */
static int
answers_owed(run *r)
{
    for (uint32_t i = 0; i < r->length; i++)
        if (owes_answer(r, &r->all[i]))
            return 1;
    return 0;
}

/* Whether a subscriber has not seen all that was sent. */
static int
stamps_owed(run *r)
{
    for (uint32_t i = 0; i < r->length; i++) {
        connection *c = &r->all[i];
        lg_group *g = group_of(r, c);
        if (c->state != OVER && subscribes(g) && g->source >= 0
            && r->sequences[g->source] != NULL
            && g->received[c->number] < r->sequences[g->source][c->target])
            return 1;
    }
    return 0;
}

/* Whether the work that has an end has come to it. */
static int
finished(run *r)
{
    int bounded = 0;
    for (uint32_t i = 0; i < r->plan->groups_length; i++) {
        lg_group *g = &r->plan->groups[i];
        if (subscribes(g))
            continue;
        if (g->steps == 0 && !g->once)
            return 0;
        bounded = 1;
        if (g->steps > 0 && r->asked[i] < g->steps)
            for (uint32_t j = 0; j < g->connections; j++)
                if (r->all[r->first[i] + j].state != OVER)
                    return 0;
    }
    return (bounded && !answers_owed(r)) || r->open == 0;
}

static void
settle_accounts(run *r)
{
    static const char text[] = "no answer came";
    for (uint32_t i = 0; i < r->length; i++)
        if (owes_answer(r, &r->all[i]))
            give_up(r, &r->all[i], LG_E_UNANSWERED, text, sizeof text - 1);
}

static int
fail(lg_plan *plan, const char *why)
{
    snprintf(plan->failure, sizeof plan->failure, "%s: %s", why, strerror(errno));
    return -1;
}

static int
perform(run *r)
{
    lg_plan *plan = r->plan;
    clockid_t server_clock = CLOCK_MONOTONIC;
    if (plan->server_pid > 0 && clock_getcpuclockid(plan->server_pid, &server_clock) != 0)
        return fail(plan, "no CPU clock of the server");
    int64_t now = now_ns();
    int64_t patience = (int64_t)(plan->patience_s * 1e9);
    int64_t give_up_ns = now + patience;
    r->start_ns = r->window_ns = r->end_ns = INT64_MAX;
    dial_some(r);
    while ((r->unconnected > 0 || r->unready > 0) && now < give_up_ns)
        now = turn_over(r, give_up_ns);
    if (r->unconnected > 0 || r->unready > 0) {
        errno = ETIMEDOUT;
        return fail(plan, "clients that were not served at all");
    }
    for (int64_t settled = now + SETTLE_NS; plan->groups_length > 1 && now < settled;)
        now = turn_over(r, settled);

    r->start_ns = now;
    r->window_ns = now + (int64_t)(plan->warm_up_s * 1e9);
    r->end_ns = INT64_MAX;
    int64_t planned_end = r->window_ns + (int64_t)(plan->window_s * 1e9);
    r->sending = 1;
    for (uint32_t i = 0; i < r->length; i++)
        if (r->all[i].state == IDLE)
            go_on(r, &r->all[i], r->start_ns);
    while (now < r->window_ns && !finished(r))
        now = turn_over(r, r->window_ns);
    double cpu = cpu_s(CLOCK_PROCESS_CPUTIME_ID), server = cpu_s(server_clock);
    int64_t began = now;
    while (now < planned_end && !finished(r))
        now = turn_over(r, planned_end);
    r->end_ns = now;
    r->sending = 0;
    plan->measured_s = (double)(now - began) / 1e9;
    plan->cpu_s = cpu_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    plan->server_cpu_s = plan->server_pid > 0 ? cpu_s(server_clock) - server : 0.0;
    give_up_ns = now + patience;
    while ((answers_owed(r) || stamps_owed(r)) && now < give_up_ns)
        now = turn_over(r, give_up_ns);
    plan->drained_s = (double)(now - began) / 1e9;
    plan->drained_cpu_s = plan->server_pid > 0 ? cpu_s(server_clock) - server : 0.0;
    settle_accounts(r);
    return 0;
}

static void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int
lg_run(lg_plan *plan)
{
    run r = {.plan = plan};
    uint32_t groups = plan->groups_length;
    raise_descriptor_limit();
    r.first = zeros(groups, sizeof *r.first);
    r.asked = zeros(groups, sizeof *r.asked);
    r.due = zeros(groups, sizeof *r.due);
    r.sequences = zeros(groups, sizeof *r.sequences);
    for (uint32_t i = 0; i < groups; i++) {
        lg_group *g = &plan->groups[i];
        r.first[i] = r.length;
        r.length += g->connections;
        if (subscribes(g))
            r.unready += g->connections;
        if (g->stamp_at != UINT32_MAX)
            r.sequences[i] = zeros(g->targets, sizeof **r.sequences);
    }
    r.all = zeros(r.length, sizeof *r.all);
    r.fresh = r.unconnected = r.open = r.length;
    for (uint32_t i = 0; i < groups; i++)
        for (uint32_t j = 0; j < plan->groups[i].connections; j++) {
            connection *c = &r.all[r.first[i] + j];
            c->fd = -1;
            c->group = i;
            c->number = j;
            rewind_to(&plan->groups[i], c, j % plan->groups[i].targets);
        }
    r.buffer = zeros(RECEIVE_BYTES, 1);
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    r.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TIMER};
    int result = r.epoll < 0 || r.timer < 0
                         || epoll_ctl(r.epoll, EPOLL_CTL_ADD, r.timer, &event) != 0
                     ? fail(plan, "no epoll")
                     : perform(&r);
    for (uint32_t i = 0; i < r.length; i++) {
        if (r.all[i].fd >= 0)
            close(r.all[i].fd);
        free(r.all[i].out);
    }
    close(r.timer);
    close(r.epoll);
    for (uint32_t i = 0; i < groups; i++)
        free(r.sequences[i]);
    free(r.sequences);
    free(r.due);
    free(r.asked);
    free(r.first);
    free(r.buffer);
    free(r.all);
    return result;
}
