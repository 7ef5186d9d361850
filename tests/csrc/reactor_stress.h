#ifndef TAILRACE_TESTS_REACTOR_STRESS_H
#define TAILRACE_TESTS_REACTOR_STRESS_H
#include <pthread.h>
#include <stdint.h>

#include "front/collect.h"
#include "front/reactor.h"

/* What the threads of reactor_stress share: the one that polls (reactor_stress.c), those that
   answer (reactor_answers.c), and one for each connection served by hand (reactor_by_hand.c). */

enum {
    BATCH_MAX = 32,
    CROWD_MAX = 64,
    DEAD_MAX = 256,
    PIECES_MAX = 100, /* more than fit into one call of the kernel */
};

/* A request that is out. */
struct job {
    uint64_t handle;
    uint64_t id;
    uint32_t number;
    uint32_t keep_alive;
    uint32_t records; /* it came as so many of a lane's columns; else 0 */
};

/* A connection outside of the reactor. */
struct by_hand;

/* Under the lock, but for what says otherwise. */
extern struct shared {
    struct tr_reactor *reactor; /* has locks of its own */
    struct tr_form form;        /* stays as it is */
    uint64_t seed;              /* the main thread's */
    uint64_t rows;              /* the polling thread's */
    uint64_t records;           /* likewise: what is in the rows */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job jobs[1024]; /* one for each connection at most */
    uint32_t job_count;
    struct job crowd[CROWD_MAX]; /* parked until now, to be answered together */
    uint32_t crowd_count;
    uint64_t dead[DEAD_MAX]; /* handles that are nobody's */
    uint32_t dead_count;
    struct by_hand *returned;
    int hands; /* threads that serve by hand */
    int stop;
    uint64_t held; /* answers in pieces that are still needed */
} shared;

extern const struct tr_reactor_limits LIMITS;

/* End the program. */
void broken(const char *what);

void pause_ms(uint64_t ms);

/* Serve a connection that was offered, or (job) has a request out, in a thread of its own. */
void by_hand_take(uint64_t handle, const struct job *job);

/* Let the reactor have those again that came to rest. */
void by_hand_give_back(void);

/* The form of a record's answer. */
void make_form(struct tr_form *form);

/* Room for all that one call of the two below sends. */
uint8_t *blob_new(void);

/* Send these answers in a random order, with stale ones between. */
void answer(struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob);

/* The same with one call for all, in which equal answers are one piece. */
void answer_alike(const struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob);

/* Free the answers in pieces that the reactor needs no more. For the polling thread. */
void free_released(void);

/* A thread that answers what others leave for it. argument: its dice. */
void *answerer_main(void *argument);

#endif
