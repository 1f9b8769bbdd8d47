/* What the timed loop and the two runtimes behind it share.
 *
 * Every function that can fail returns 0 or -1 and leaves a NUL-terminated reason in the session's
 * message, or in the caller's buffer where there is no session yet. Times are CLOCK_MONOTONIC
 * nanoseconds. No function may be called from two threads at once for one session.
 */
#ifndef ASSAY_NATIVE_H
#define ASSAY_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define ASSAY_MAX_RANK 32
#define ASSAY_MESSAGE_BYTES 1024
#define ASSAY_NAME_BYTES 1024
/* What an open function returns where the library is not one it can speak to. */
#define ASSAY_ABSENT 1
#define ASSAY_PUBLIC __attribute__((visibility("default")))

/* A tensor as the runtime counts it: `type` is the runtime's own number; `data` belongs to the
 * caller and outlives the binding. An unknown dimension is negative: -1 where it has no name, else
 * a number made of its name, the same wherever the model uses that name. */
struct assay_tensor {
    void *data;
    uint64_t bytes;
    int32_t type;
    int32_t rank;
    int64_t dims[ASSAY_MAX_RANK];
};

/* The head of each runtime's own session. `run` is the one call that is timed. */
struct assay_session {
    int (*run)(struct assay_session *session, int64_t sample);
    /* After a failed run: turns the runtime's status into the message. */
    void (*explain)(struct assay_session *session);
    int (*describe)(struct assay_session *session, int output, int64_t index, char *name,
                    struct assay_tensor *tensor);
    int (*resize)(struct assay_session *session, const struct assay_tensor *inputs,
                  struct assay_tensor *outputs);
    int (*bind)(struct assay_session *session, int64_t samples, const struct assay_tensor *inputs,
                const struct assay_tensor *outputs);
    void (*close)(struct assay_session *session);
    int64_t input_count;
    int64_t output_count;
    int64_t sample_count;
    char message[ASSAY_MESSAGE_BYTES];
};

/* Writes a formatted reason into ASSAY_MESSAGE_BYTES and returns -1. */
int assay_fail(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Loads `path` and fills `functions` with the addresses of `names`; the library stays loaded. */
int assay_symbols(const char *path, const char *const *names, void **functions, size_t count,
                  char *message);

#endif
