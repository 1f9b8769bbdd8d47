/* onnxruntime's C API, spoken without its headers.
 *
 * The library exports OrtGetApiBase; GetApi(n) returns a table of functions whose positions are
 * fixed for ever ("the size of version 1 API cannot change" is asserted in its source), later
 * versions only append. We ask for version 5 (onnxruntime 1.5), the oldest that has everything
 * below, and never for more than the build has. Source: onnxruntime_c_api.h.
 */
#include "native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION 5
#define OLDEST_MINOR 5

enum {
    ONNX_TENSOR = 1,
    LOG_ERROR = 3,
    SEQUENTIAL = 0,
    ARENA_ALLOCATOR = 1,
    DEFAULT_MEMORY = 0,
};

/* Position of each function in the table, and its type; a status is NULL when all went well. */
typedef void *status_t;
#define AT(position, type) ((type)(api[position]))
#define GET_ERROR_MESSAGE AT(2, const char *(*)(void *))
#define CREATE_ENV AT(3, status_t(*)(int, const char *, void **))
#define CREATE_SESSION AT(7, status_t(*)(void *, const char *, void *, void **))
#define CREATE_SESSION_OPTIONS AT(10, status_t(*)(void **))
#define SET_EXECUTION_MODE AT(13, status_t(*)(void *, int))
#define ENABLE_MEMORY_PATTERN AT(16, status_t(*)(void *))
#define DISABLE_MEMORY_PATTERN AT(17, status_t(*)(void *))
#define ENABLE_ARENA AT(18, status_t(*)(void *))
#define DISABLE_ARENA AT(19, status_t(*)(void *))
#define SET_LOG_SEVERITY AT(22, status_t(*)(void *, int))
#define SET_GRAPH_LEVEL AT(23, status_t(*)(void *, int))
#define SET_INTRA_THREADS AT(24, status_t(*)(void *, int))
#define SET_INTER_THREADS AT(25, status_t(*)(void *, int))
#define COUNT(output) AT(30 + (output), status_t(*)(void *, size_t *))
#define TYPE_INFO(output) AT(33 + (output), status_t(*)(void *, size_t, void **))
#define NAME(output) AT(36 + (output), status_t(*)(void *, size_t, void *, char **))
#define CREATE_TENSOR                                                                             \
    AT(49, status_t(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))
#define CAST_TO_TENSOR_INFO AT(55, status_t(*)(void *, void **))
#define ONNX_TYPE AT(56, status_t(*)(void *, int *))
#define ELEMENT_TYPE AT(60, status_t(*)(void *, int *))
#define RANK AT(61, status_t(*)(void *, size_t *))
#define DIMENSIONS AT(62, status_t(*)(void *, int64_t *, size_t))
#define SYMBOLIC_DIMENSIONS AT(63, status_t(*)(void *, const char **, size_t))
#define TENSOR_INFO_OF_VALUE AT(65, status_t(*)(void *, void **))
#define ONNX_TYPE_OF_VALUE AT(67, status_t(*)(void *, int *))
#define CREATE_CPU_MEMORY AT(69, status_t(*)(int, int, void **))
#define ALLOCATOR_FREE AT(76, status_t(*)(void *, void *))
#define DEFAULT_ALLOCATOR AT(78, status_t(*)(void **))
#define RELEASE(position) AT(position, void (*)(void *))
#define RELEASE_ENV RELEASE(92)
#define RELEASE_STATUS RELEASE(93)
#define RELEASE_MEMORY RELEASE(94)
#define RELEASE_SESSION RELEASE(95)
#define RELEASE_VALUE RELEASE(96)
#define RELEASE_TYPE_INFO RELEASE(98)
#define RELEASE_TENSOR_INFO RELEASE(99)
#define RELEASE_SESSION_OPTIONS RELEASE(100)
#define RUN AT(9, run_t)
#define ADD_CONFIG_ENTRY AT(130, status_t(*)(void *, const char *, const char *))
#define RUN_WITH_BINDING AT(133, run_with_binding_t)
#define CREATE_BINDING AT(134, status_t(*)(void *, void **))
#define RELEASE_BINDING RELEASE(135)
#define BIND_INPUT AT(136, status_t(*)(void *, const char *, const void *))
#define BIND_OUTPUT AT(137, status_t(*)(void *, const char *, const void *))

typedef status_t (*run_with_binding_t)(void *, const void *, const void *);
typedef status_t (*run_t)(void *, const void *, const char *const *, const void *const *, size_t,
                          const char *const *, size_t, void **);

struct api_base {
    const void *const *(*get_api)(uint32_t);
    const char *(*get_version)(void);
};

/* Mirrors the ctypes structure in abi.py. `config` is key, value, key, value, ..., NULL. */
struct assay_ort_settings {
    int32_t threads;
    int32_t inter_op_threads;
    int32_t graph_level;
    int32_t memory_arena;
    int32_t memory_pattern;
    const char *const *config;
};

struct ort_session {
    struct assay_session base;
    run_with_binding_t run_with_binding;
    void *session;
    void **bindings; /* one per sample */
    status_t status;
    const void *const *api;
    void *env;
    void *memory;
    void *allocator;
    char **names[2]; /* inputs, outputs; from the allocator */
};

static int run(struct assay_session *base, int64_t sample) {
    struct ort_session *self = (struct ort_session *)base;
    self->status = self->run_with_binding(self->session, NULL, self->bindings[sample]);
    return self->status == NULL ? 0 : -1;
}

/* Takes a status over: 0 where it is none, else its message is copied and it is released. */
static int settle(const void *const *api, status_t status, char *message) {
    if (status == NULL) {
        return 0;
    }
    assay_fail(message, "%s", GET_ERROR_MESSAGE(status));
    RELEASE_STATUS(status);
    return -1;
}

#define TRY(call)                                                                                 \
    do {                                                                                          \
        if (settle(api, (call), message) != 0)                                                    \
            return -1;                                                                            \
    } while (0)

static void explain(struct assay_session *base) {
    struct ort_session *self = (struct ort_session *)base;
    settle(self->api, self->status, base->message);
    self->status = NULL;
}

/* FNV-1a of a dimension's name, folded into the numbers below -1. */
static int64_t symbol_number(const char *symbol) {
    uint64_t hash = 14695981039346656037u;
    for (; *symbol != '\0'; symbol++) {
        hash = (hash ^ (unsigned char)*symbol) * 1099511628211u;
    }
    return -2 - (int64_t)(hash >> 2);
}

static int read_tensor_info(const void *const *api, void *info, struct assay_tensor *tensor,
                            char *message) {
    int type = 0;
    size_t rank = 0;
    TRY(ELEMENT_TYPE(info, &type));
    TRY(RANK(info, &rank));
    if (rank > ASSAY_MAX_RANK) {
        return assay_fail(message, "rank %zu is beyond %d", rank,
                          ASSAY_MAX_RANK);
    }
    const char *symbols[ASSAY_MAX_RANK] = {NULL};
    TRY(DIMENSIONS(info, tensor->dims, rank));
    TRY(SYMBOLIC_DIMENSIONS(info, symbols, rank));
    for (size_t i = 0; i < rank; i++) {
        if (tensor->dims[i] < 0 && symbols[i] != NULL && symbols[i][0] != '\0') {
            tensor->dims[i] = symbol_number(symbols[i]);
        }
    }
    tensor->type = type;
    tensor->rank = (int32_t)rank;
    return 0;
}

/* Type 0 stands for what is no tensor: a sequence, a map, an optional, a sparse tensor. */
static int describe(struct assay_session *base, int output, int64_t index, char *name,
                    struct assay_tensor *tensor) {
    struct ort_session *self = (struct ort_session *)base;
    const void *const *api = self->api;
    char *message = base->message;
    void *type = NULL;
    void *info = NULL;
    int kind = 0;
    if (strlen(self->names[output][index]) >= ASSAY_NAME_BYTES) {
        return assay_fail(message, "a tensor's name is longer than %d bytes",
                          ASSAY_NAME_BYTES - 1);
    }
    strcpy(name, self->names[output][index]);
    memset(tensor, 0, sizeof *tensor);
    TRY(TYPE_INFO(output)(self->session, (size_t)index, &type));
    int result = settle(api, ONNX_TYPE(type, &kind), message);
    if (result == 0 && kind == ONNX_TENSOR) {
        result = settle(api, CAST_TO_TENSOR_INFO(type, &info), message);
        if (result == 0) {
            result = read_tensor_info(api, info, tensor, message);
        }
    }
    RELEASE_TYPE_INFO(type);
    return result;
}

static int make_value(struct ort_session *self, const struct assay_tensor *tensor, void **value) {
    const void *const *api = self->api;
    return settle(api,
                  CREATE_TENSOR(self->memory, tensor->data, (size_t)tensor->bytes, tensor->dims,
                                (size_t)tensor->rank, tensor->type, value),
                  self->base.message);
}

static int read_value(struct ort_session *self, void *value, struct assay_tensor *tensor) {
    const void *const *api = self->api;
    char *message = self->base.message;
    void *info = NULL;
    int kind = 0;
    TRY(ONNX_TYPE_OF_VALUE(value, &kind));
    if (kind != ONNX_TENSOR) {
        return assay_fail(message, "an output is not a tensor");
    }
    TRY(TENSOR_INFO_OF_VALUE(value, &info));
    const int result = read_tensor_info(api, info, tensor, message);
    RELEASE_TENSOR_INFO(info);
    return result;
}

/* Runs the model once and lets it allocate its outputs, to learn their shapes. */
static int resize(struct assay_session *base, const struct assay_tensor *inputs,
                  struct assay_tensor *outputs) {
    struct ort_session *self = (struct ort_session *)base;
    const void *const *api = self->api;
    const size_t in = (size_t)base->input_count;
    const size_t out = (size_t)base->output_count;
    void **values = calloc(in + out + 1, sizeof *values);
    int result = values == NULL
                     ? assay_fail(base->message, "out of memory")
                     : 0;
    for (size_t i = 0; i < in && result == 0; i++) {
        result = make_value(self, &inputs[i], &values[i]);
    }
    if (result == 0) {
        result = settle(api,
                        RUN(self->session, NULL, (const char *const *)self->names[0],
                            (const void *const *)values, in, (const char *const *)self->names[1],
                            out, values + in),
                        base->message);
    }
    for (size_t i = 0; i < out && result == 0; i++) {
        memset(&outputs[i], 0, sizeof outputs[i]);
        result = read_value(self, values[in + i], &outputs[i]);
    }
    for (size_t i = 0; values != NULL && i < in + out; i++) {
        RELEASE_VALUE(values[i]);
    }
    free(values);
    return result;
}

static int bind_one(struct ort_session *self, void *binding, int output, int64_t index,
                    const struct assay_tensor *tensor) {
    const void *const *api = self->api;
    void *value = NULL;
    if (make_value(self, tensor, &value) != 0) {
        return -1;
    }
    const char *name = self->names[output][index];
    const status_t status =
        output ? BIND_OUTPUT(binding, name, value) : BIND_INPUT(binding, name, value);
    RELEASE_VALUE(value); /* the binding holds its own reference */
    return settle(api, status, self->base.message);
}

static void unbind(struct ort_session *self) {
    const void *const *api = self->api;
    for (int64_t i = 0; self->bindings != NULL && i < self->base.sample_count; i++) {
        RELEASE_BINDING(self->bindings[i]);
    }
    free(self->bindings);
    self->bindings = NULL;
    self->base.sample_count = 0;
}

static int bind_sample(struct ort_session *self, int64_t sample, const struct assay_tensor *inputs,
                       const struct assay_tensor *outputs) {
    const void *const *api = self->api;
    const int64_t in = self->base.input_count;
    const int64_t out = self->base.output_count;
    if (settle(api, CREATE_BINDING(self->session, &self->bindings[sample]),
               self->base.message) != 0) {
        return -1;
    }
    void *binding = self->bindings[sample];
    for (int64_t i = 0; i < in; i++) {
        if (bind_one(self, binding, 0, i, &inputs[sample * in + i]) != 0) {
            return -1;
        }
    }
    for (int64_t i = 0; i < out; i++) {
        if (bind_one(self, binding, 1, i, &outputs[sample * out + i]) != 0) {
            return -1;
        }
    }
    return 0;
}

static int bind(struct assay_session *base, int64_t samples, const struct assay_tensor *inputs,
                const struct assay_tensor *outputs) {
    struct ort_session *self = (struct ort_session *)base;
    unbind(self);
    self->bindings = calloc((size_t)samples, sizeof *self->bindings);
    if (self->bindings == NULL) {
        return assay_fail(base->message, "out of memory");
    }
    base->sample_count = samples;
    for (int64_t i = 0; i < samples; i++) {
        if (bind_sample(self, i, inputs, outputs) != 0) {
            unbind(self);
            return -1;
        }
    }
    return 0;
}

static void close_session(struct assay_session *base) {
    struct ort_session *self = (struct ort_session *)base;
    const void *const *api = self->api;
    unbind(self);
    for (int output = 0; output < 2; output++) {
        const int64_t count = output ? base->output_count : base->input_count;
        for (int64_t i = 0; self->names[output] != NULL && i < count; i++) {
            if (self->names[output][i] != NULL) {
                settle(api, ALLOCATOR_FREE(self->allocator, self->names[output][i]),
                       base->message);
            }
        }
        free(self->names[output]);
    }
    RELEASE_SESSION(self->session);
    RELEASE_MEMORY(self->memory);
    if (self->env != NULL) {
        RELEASE_ENV(self->env);
    }
    free(self);
}

static int set_options(const void *const *api, void *options,
                       const struct assay_ort_settings *settings, char *message) {
    TRY(SET_LOG_SEVERITY(options, LOG_ERROR));
    TRY(SET_EXECUTION_MODE(options, SEQUENTIAL));
    TRY(SET_GRAPH_LEVEL(options, settings->graph_level));
    TRY(SET_INTRA_THREADS(options, settings->threads));
    TRY(SET_INTER_THREADS(options, settings->inter_op_threads));
    TRY(settings->memory_pattern ? ENABLE_MEMORY_PATTERN(options)
                                 : DISABLE_MEMORY_PATTERN(options));
    TRY(settings->memory_arena ? ENABLE_ARENA(options) : DISABLE_ARENA(options));
    for (const char *const *entry = settings->config; entry[0] != NULL; entry += 2) {
        TRY(ADD_CONFIG_ENTRY(options, entry[0], entry[1]));
    }
    return 0;
}

static int read_names(struct ort_session *self, int output, int64_t *count, char *message) {
    const void *const *api = self->api;
    size_t found = 0;
    TRY(COUNT(output)(self->session, &found));
    self->names[output] = calloc(found + 1, sizeof **self->names);
    if (self->names[output] == NULL) {
        return assay_fail(message, "out of memory");
    }
    *count = (int64_t)found;
    for (size_t i = 0; i < found; i++) {
        TRY(NAME(output)(self->session, i, self->allocator, &self->names[output][i]));
    }
    return 0;
}

static int open_session(struct ort_session *self, const char *model, void *options,
                        const struct assay_ort_settings *settings, char *message) {
    const void *const *api = self->api;
    TRY(DEFAULT_ALLOCATOR(&self->allocator));
    TRY(CREATE_CPU_MEMORY(ARENA_ALLOCATOR, DEFAULT_MEMORY, &self->memory));
    if (set_options(api, options, settings, message) != 0) {
        return -1;
    }
    TRY(CREATE_SESSION(self->env, model, options, &self->session));
    if (read_names(self, 0, &self->base.input_count, message) != 0) {
        return -1;
    }
    return read_names(self, 1, &self->base.output_count, message);
}

static const void *const *get_api(const char *library, const char **version, char *message) {
    static const char *const names[1] = {"OrtGetApiBase"};
    void *functions[1];
    if (assay_symbols(library, names, functions, 1, message) != 0) {
        return NULL;
    }
    const struct api_base *base = ((const struct api_base *(*)(void))functions[0])();
    *version = base->get_version();
    const char *minor = strchr(*version, '.');
    if (strncmp(*version, "1.", 2) != 0 || atoi(minor + 1) < OLDEST_MINOR) {
        assay_fail(message, "%s is version %s; 1.%d or later of 1 is needed",
                   library, *version, OLDEST_MINOR);
        return NULL;
    }
    const void *const *api = base->get_api(API_VERSION);
    if (api == NULL) {
        assay_fail(message, "%s %s does not offer version %d of its C API",
                   library, *version, API_VERSION);
    }
    return api;
}

/* Shakes hands with a library without opening anything: 0 and its version, or -1. */
ASSAY_PUBLIC int assay_ort_version(const char *library, char *version, size_t size,
                                   char *message) {
    const char *found = NULL;
    if (get_api(library, &found, message) == NULL) {
        return -1;
    }
    snprintf(version, size, "%s", found);
    return 0;
}

/* Opens `model`; `message` holds ASSAY_MESSAGE_BYTES. */
ASSAY_PUBLIC int assay_ort_open(const char *library, const char *model,
                                const struct assay_ort_settings *settings,
                                struct assay_session **out, char *message) {
    const char *version = NULL;
    const void *const *api = get_api(library, &version, message);
    if (api == NULL) {
        return ASSAY_ABSENT;
    }
    struct ort_session *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return assay_fail(message, "out of memory");
    }
    const struct assay_session base = {
        .run = run, .explain = explain, .describe = describe,
        .resize = resize, .bind = bind, .close = close_session,
    };
    self->base = base;
    self->api = api;
    self->run_with_binding = RUN_WITH_BINDING;
    void *options = NULL;
    int result = settle(api, CREATE_ENV(LOG_ERROR, "assay", &self->env), message);
    if (result == 0) {
        result = settle(api, CREATE_SESSION_OPTIONS(&options), message);
    }
    if (result == 0) {
        result = open_session(self, model, options, settings, message);
    }
    RELEASE_SESSION_OPTIONS(options);
    if (result != 0) {
        close_session(&self->base);
        return -1;
    }
    *out = &self->base;
    return 0;
}
