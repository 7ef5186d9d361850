/* A server that does nothing: what a load generator reaches against it is its own ceiling. */
#ifndef LG_TARGET_H
#define LG_TARGET_H
#include <stdint.h>

/* Answer every HTTP/1.1 request on the listening socket, one thread, until the process ends:
   GET with `get` and then, if `path` is not NULL, that file through sendfile(2); all else with
   `other`. Returns only on failure. */
int lg_serve(int listener, const uint8_t *get, uint32_t get_length, const uint8_t *other,
             uint32_t other_length, const char *path);
#endif
