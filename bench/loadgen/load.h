/* Many clients in one thread: groups of connections that ask, follow and listen, and a clock.

   A plan is run once. What a group sends is prepared by the caller; here it is only put
   together. All times are nanoseconds of CLOCK_MONOTONIC. */
#ifndef LG_LOAD_H
#define LG_LOAD_H
#include <stdint.h>

/* Room for an offset or a cursor. */
#define LG_TOKEN_BYTES_MAX 128

/* What the connections of a group do. */
enum {
    LG_REQUEST = 0,  /* one request after the other, or at a fixed rate */
    LG_FOLLOW = 1,   /* read a target from its start until the answer says that it is up to date */
    LG_SSE = 2,      /* one request whose answer never ends */
    LG_LONG_POLL = 3 /* read on from where the last answer ended, for ever */
};
enum { LG_HTTP = 0, LG_RESP = 1 };

/* Why a connection was given up. */
enum {
    LG_E_CONNECT = 0,
    LG_E_CLOSED = 1,     /* in the middle of an answer, or before one */
    LG_E_STATUS = 2,     /* another status than the two that are fine */
    LG_E_FRAMING = 3,    /* not an answer, or one that nobody asked for */
    LG_E_ORDER = 4,      /* an event came twice, or one was left out */
    LG_E_UNANSWERED = 5, /* nothing came until long after the end */
    LG_ERRORS = 6
};

typedef struct {
    uint32_t kind, wire;
    uint32_t connections;
    uint32_t answers; /* to one request: more than one in a pipeline */
    uint32_t status_a, status_b;
    uint32_t targets;
    const uint8_t *heads; /* per target: a request up to its body, or to its offset */
    const uint32_t *head_ends;
    const uint8_t *starts; /* per target of a follower: the offset to start from */
    const uint32_t *start_ends;
    const uint8_t *tail; /* what comes after the offset, to the end of the request */
    uint32_t tail_length;
    uint32_t bodies; /* used in turn; none: requests without a body */
    const uint8_t *body_bytes;
    const uint32_t *body_ends;
    uint32_t stamp_at; /* where a body takes its number and time; UINT32_MAX: nowhere */
    const uint8_t *marker; /* looked for in answers; its first byte is nowhere else in it */
    uint32_t marker_length;
    int64_t producer_epoch; /* each connection is a producer, in this epoch; -1: none is */
    uint32_t stamped; /* whether number and time come behind the marker */
    int32_t source;   /* the group whose stamps these subscribers wait for, or -1 */
    uint32_t once;    /* each target is asked for or followed once, with its own body */
    uint64_t steps;   /* at most so many requests; 0: no limit */
    double rate;      /* requests a second of the whole group; 0: each as soon as it can */

    /* Found out: */
    uint64_t *acknowledged; /* per target: answers that were fine, warm-up included */
    uint64_t *found;        /* per target: markers seen, warm-up included */
    char *ends;             /* per target of a follower: its last offset, in LG_TOKEN_BYTES_MAX */
    uint64_t *received;     /* per connection: stamps seen */
    uint64_t *histogram;    /* LG_HISTOGRAM_BUCKETS counts of latencies within the window */
    uint64_t units;         /* answers, whole readings, or deliveries, within the window */
    uint64_t body_length;   /* bytes of bodies that were received within the window */
    uint64_t reconnects;
    uint64_t errors[LG_ERRORS];
    char error_text[512];
} lg_group;

typedef struct {
    uint32_t address, port; /* IPv4, as a number */
    int32_t server_pid;     /* whose CPU time is taken too; 0: nobody's */
    double warm_up_s, window_s, patience_s;
    uint32_t groups_length;
    lg_group *groups;

    /* Found out, of the window: */
    double measured_s, cpu_s, server_cpu_s;
    double drained_s, drained_cpu_s; /* the same until everything had arrived; CPU: the server's */
    char failure[256]; /* why the plan could not be run at all */
} lg_plan;

/* 0: it was run; -1: it could not be, see `failure`. */
int lg_run(lg_plan *plan);
#endif
