/* The timed loop: a clock, the call, a clock; everything else happens outside the two readings. */
#define _GNU_SOURCE
#include "native.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef ASSAY_DIGEST
#define ASSAY_DIGEST ""
#endif

/* An open-loop wait sleeps until this long before the intended start and spins from there on:
 * longer than a timer's slack (50 us by default) and the wake-up behind it. */
#define SPIN_NS 200000

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int assay_fail(char *message, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, ASSAY_MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    return -1;
}

int assay_symbols(const char *path, const char *const *names, void **functions, size_t count,
                  char *message) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return assay_fail(message, "%s", dlerror());
    }
    for (size_t i = 0; i < count; i++) {
        functions[i] = dlsym(library, names[i]);
        if (functions[i] == NULL) {
            dlclose(library);
            return assay_fail(message, "%s exports no %s", path, names[i]);
        }
    }
    return 0;
}

/* Which source this library was built from: looked for in the file before it is loaded. */
ASSAY_PUBLIC const char assay_digest[] = ASSAY_DIGEST;

ASSAY_PUBLIC const char *assay_message(const struct assay_session *session) {
    return session->message;
}

ASSAY_PUBLIC int64_t assay_count(const struct assay_session *session, int output) {
    return output ? session->output_count : session->input_count;
}

ASSAY_PUBLIC int assay_describe(struct assay_session *session, int output, int64_t index,
                                char *name, struct assay_tensor *tensor) {
    if (index < 0 || index >= assay_count(session, output)) {
        return assay_fail(session->message, "no tensor %lld",
                          (long long)index);
    }
    return session->describe(session, output, index, name, tensor);
}

/* Finds the outputs' shapes for one sample; onnxruntime runs the model for it, LiteRT resizes. */
ASSAY_PUBLIC int assay_resize(struct assay_session *session, const struct assay_tensor *inputs,
                              struct assay_tensor *outputs) {
    return session->resize(session, inputs, outputs);
}

ASSAY_PUBLIC int assay_bind(struct assay_session *session, int64_t samples,
                            const struct assay_tensor *inputs,
                            const struct assay_tensor *outputs) {
    if (samples < 1) {
        return assay_fail(session->message, "no sample to bind");
    }
    return session->bind(session, samples, inputs, outputs);
}

ASSAY_PUBLIC void assay_close(struct assay_session *session) {
    if (session != NULL) {
        session->close(session);
    }
}

/* One untimed call. */
ASSAY_PUBLIC int assay_run(struct assay_session *session, int64_t sample) {
    if (sample < 0 || sample >= session->sample_count) {
        return assay_fail(session->message, "no sample %lld is bound",
                          (long long)sample);
    }
    if (session->run(session, sample) != 0) {
        session->explain(session);
        return -1;
    }
    return 0;
}

static int check_order(struct assay_session *session, const int64_t *order, int64_t length) {
    for (int64_t i = 0; i < length; i++) {
        if (order[i] < 0 || order[i] >= session->sample_count) {
            return assay_fail(session->message, "no sample %lld is bound",
                              (long long)order[i]);
        }
    }
    if (length < 1) {
        return assay_fail(session->message, "the order is empty");
    }
    return 0;
}

/* Times up to `queries` queries of `per_query` calls each, one after the other, and stops after
 * the query that passes `max_ns`. Walks over `order` from `*cursor` and leaves it at the next
 * sample. out_ns[0 .. *taken) are the queries' times. */
ASSAY_PUBLIC int assay_run_block(struct assay_session *session, const int64_t *order,
                                 int64_t length, int64_t *cursor, int64_t per_query,
                                 int64_t queries, int64_t max_ns, int64_t *out_ns,
                                 int64_t *taken) {
    *taken = 0;
    if (check_order(session, order, length) != 0) {
        return -1;
    }
    int (*const run)(struct assay_session *, int64_t) = session->run;
    int64_t at = *cursor % length;
    int64_t count = 0;
    int status = 0;
    memset(out_ns, 0, (size_t)queries * sizeof *out_ns); /* no page fault inside the block */
    const int64_t deadline_ns = now_ns() + max_ns;
    int64_t end_ns = 0;
    while (count < queries && end_ns < deadline_ns) {
        const int64_t start_ns = now_ns();
        for (int64_t i = 0; i < per_query && status == 0; i++) {
            status = run(session, order[at]);
            at = at + 1 == length ? 0 : at + 1;
        }
        end_ns = now_ns();
        if (status != 0) {
            break;
        }
        out_ns[count++] = end_ns - start_ns;
    }
    *cursor = at;
    *taken = count;
    if (status != 0) {
        session->explain(session);
    }
    return status;
}

static void wait_until(int64_t intended_ns) {
    const int64_t wake_ns = intended_ns - SPIN_NS;
    if (now_ns() < wake_ns) {
        const struct timespec wake = {wake_ns / 1000000000, wake_ns % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) != 0) {
        }
    }
    while (now_ns() < intended_ns) {
    }
}

/* Runs query i no earlier than intended_ns[i] (absolute) and at once where that has passed. The
 * first one is run in any case, also by a thread that came to it only after until_ns. */
ASSAY_PUBLIC int assay_run_schedule(struct assay_session *session, const int64_t *order,
                                    int64_t length, int64_t *cursor, int64_t queries,
                                    int64_t until_ns, const int64_t *intended_ns,
                                    int64_t *started_ns, int64_t *ended_ns, int64_t *taken) {
    *taken = 0;
    if (check_order(session, order, length) != 0) {
        return -1;
    }
    int64_t at = *cursor % length;
    int64_t count = 0;
    int status = 0;
    memset(started_ns, 0, (size_t)queries * sizeof *started_ns);
    memset(ended_ns, 0, (size_t)queries * sizeof *ended_ns);
    while (count < queries &&
           (count == 0 || (intended_ns[count] < until_ns && now_ns() < until_ns))) {
        wait_until(intended_ns[count]);
        started_ns[count] = now_ns();
        status = session->run(session, order[at]);
        ended_ns[count] = now_ns();
        if (status != 0) {
            session->explain(session);
            break;
        }
        at = at + 1 == length ? 0 : at + 1;
        count++;
    }
    *cursor = at;
    *taken = count;
    return status;
}

static int run_nothing(struct assay_session *session, int64_t sample) {
    (void)session;
    (void)sample;
    return 0;
}

/* Read through volatile, so that no compiler can see which function it is and leave it out. */
static int (*volatile nothing_to_run)(struct assay_session *, int64_t) = run_nothing;

/* What the loop itself costs: the same block around a call that does nothing. */
ASSAY_PUBLIC int assay_floor(int64_t queries, int64_t *out_ns) {
    struct assay_session nothing = {.run = nothing_to_run, .sample_count = 1};
    const int64_t order[1] = {0};
    int64_t cursor = 0;
    int64_t taken = 0;
    return assay_run_block(&nothing, order, 1, &cursor, 1, queries, INT64_MAX / 4, out_ns, &taken);
}
