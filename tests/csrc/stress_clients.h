#ifndef TAILRACE_TESTS_STRESS_CLIENTS_H
#define TAILRACE_TESTS_STRESS_CLIENTS_H
#include <stdint.h>

/* Clients that know every byte they must receive (see stress_messages.h), and leave whenever they
   like. A received byte that is not the expected one ends the program. */

struct crowd_counts {
    uint64_t connections;
    uint64_t requests; /* sent, at least in part */
    uint64_t answers;  /* received whole */
    uint64_t received; /* bytes */
    uint64_t left;     /* connections given up with answers outstanding */
    uint64_t handed;   /* connections that were handed over, and told so */
};

/* Talk to the server at 127.0.0.1:port for about so long; then every connection is closed. */
struct crowd_counts crowd_run(uint16_t port, int clients, double seconds, uint64_t seed);

#endif
