/* Runs a fuzz target without libFuzzer: the inputs come on standard input, each behind its length
   as four bytes, the lowest first.

   TARGET [THREADS]: so many threads run all of them at the same time. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 16, LENGTH_MAX = 1 << 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

struct input {
    uint8_t *data;
    size_t length;
};

static struct input *inputs;
static size_t count;

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(2);
    }
}

static void read_all(void)
{
    uint8_t size[4];
    size_t room = 0;
    while (fread(size, sizeof size, 1, stdin) == 1) {
        if (count == room) {
            room = room ? 2 * room : 64;
            inputs = realloc(inputs, room * sizeof *inputs);
            require(inputs != NULL, "no memory");
        }
        size_t length = (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 |
                        (size_t)size[3] << 24;
        require(length < LENGTH_MAX, "an input is not that large");
        uint8_t *data = malloc(length ? length : 1);
        require(data != NULL, "no memory");
        require(fread(data, 1, length, stdin) == length, "an input is as long as it says");
        inputs[count++] = (struct input){data, length};
    }
}

static void *run_all(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < count; i++)
        LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].length);
    return NULL;
}

int main(int arguments_count, char **arguments)
{
    pthread_t threads[THREADS_MAX];
    int others = (arguments_count > 1 ? atoi(arguments[1]) : 1) - 1;
    require(others >= 0 && others <= THREADS_MAX, "not that many threads");
    read_all();
    for (int i = 0; i < others; i++)
        require(pthread_create(&threads[i], NULL, run_all, NULL) == 0, "no thread");
    run_all(NULL);
    for (int i = 0; i < others; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < count; i++)
        free(inputs[i].data);
    free(inputs);
    printf("%zu inputs\n", count);
    return 0;
}
