/* LiteRT's C API for compiled models, spoken without its headers.
 *
 * The library has no call that tells its version, so library.py admits only wheels whose releases
 * declare ABI 1.x (2.1.6 and later; before that a model was opened with one argument less).
 * Structures are those the headers call ABI stable. Sources: litert/c/litert_{common,layout,
 * model,options,opaque_options,compiled_model,tensor_buffer}.h.
 */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RANKED = 0,
    CPU = 1,
    LITERT_MAX_RANK = 8,
    SIGNATURE = 0, /* the only one a session runs */
    REPORT_TO_BUFFER = 2,
    ANY_INT = 2,
    ACCELERATORS_TAG = 24,
    LOG_SEVERITY_TAG = 25,
    LOG_WARNING = 2,
};

/* LiteRtEnvOption: a tag and a LiteRtAny. */
struct environment_option {
    int32_t tag;
    struct {
        int32_t type;
        union {
            int64_t number;
            const void *pointer;
        } value;
    } any;
};

struct layout {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dimensions[LITERT_MAX_RANK];
    uint32_t strides[LITERT_MAX_RANK];
};

struct ranked_type {
    int32_t element;
    struct layout layout;
};

_Static_assert(sizeof(struct ranked_type) == 72, "LiteRtRankedTensorType is 72 bytes");
_Static_assert(sizeof(void *) != 8 || sizeof(struct environment_option) == 24,
               "LiteRtEnvOption is 24 bytes");

typedef void *handle;
typedef int (*run_model_t)(handle, size_t, size_t, handle *, size_t, handle *);

/* The order of `symbols` below. */
struct functions {
    int (*create_environment)(int, const void *, handle *);
    void (*destroy_environment)(handle);
    int (*create_model)(handle, const void *, size_t, handle *);
    void (*destroy_model)(handle);
    int (*create_options)(handle *);
    void (*destroy_options)(handle);
    int (*set_accelerators)(handle, int);
    int (*create_opaque)(const char *, void *, void (*)(void *), handle *);
    int (*add_opaque)(handle, handle);
    void (*destroy_opaque)(handle);
    int (*compile)(handle, handle, handle, handle *);
    void (*destroy_compiled)(handle);
    int (*signatures)(handle, size_t *);
    int (*signature)(handle, size_t, handle *);
    int (*input_count)(handle, size_t *);
    int (*output_count)(handle, size_t *);
    int (*input_name)(handle, size_t, const char **);
    int (*output_name)(handle, size_t, const char **);
    int (*input_tensor)(handle, size_t, handle *);
    int (*output_tensor)(handle, size_t, handle *);
    int (*type_kind)(handle, int *);
    int (*ranked_type)(handle, struct ranked_type *);
    int (*resize_input)(handle, size_t, size_t, const int *, size_t);
    int (*output_layouts)(handle, size_t, size_t, struct layout *, bool);
    int (*buffer_from_memory)(const struct ranked_type *, void *, size_t, void (*)(void *),
                              handle *);
    void (*destroy_buffer)(handle);
    run_model_t run;
    int (*errors)(handle, char **);
    int (*clear_errors)(handle);
};

static const char *const symbols[] = {
    "LiteRtCreateEnvironment",
    "LiteRtDestroyEnvironment",
    "LiteRtCreateModelFromBuffer",
    "LiteRtDestroyModel",
    "LiteRtCreateOptions",
    "LiteRtDestroyOptions",
    "LiteRtSetOptionsHardwareAccelerators",
    "LiteRtCreateOpaqueOptions",
    "LiteRtAddOpaqueOptions",
    "LiteRtDestroyOpaqueOptions",
    "LiteRtCreateCompiledModel",
    "LiteRtDestroyCompiledModel",
    "LiteRtGetNumModelSignatures",
    "LiteRtGetModelSignature",
    "LiteRtGetNumSignatureInputs",
    "LiteRtGetNumSignatureOutputs",
    "LiteRtGetSignatureInputName",
    "LiteRtGetSignatureOutputName",
    "LiteRtGetSignatureInputTensorByIndex",
    "LiteRtGetSignatureOutputTensorByIndex",
    "LiteRtGetTensorTypeId",
    "LiteRtGetRankedTensorType",
    "LiteRtCompiledModelResizeInputTensor",
    "LiteRtGetCompiledModelOutputTensorLayouts",
    "LiteRtCreateTensorBufferFromHostMemory",
    "LiteRtDestroyTensorBuffer",
    "LiteRtRunCompiledModel",
    "LiteRtCompiledModelGetErrorMessages",
    "LiteRtCompiledModelClearErrors",
};

#define SYMBOL_COUNT (sizeof symbols / sizeof *symbols)

_Static_assert(sizeof(struct functions) == SYMBOL_COUNT * sizeof(void *), "one symbol each");

struct litert_session {
    struct assay_session base;
    struct functions call;
    handle compiled;
    handle *inputs;  /* sample_count * input_count */
    handle *outputs; /* sample_count * output_count */
    int status;
    handle environment;
    handle model;
    handle signature;
    void *file; /* the model, mapped */
    size_t file_bytes;
};

static int run(struct assay_session *base, int64_t sample) {
    struct litert_session *self = (struct litert_session *)base;
    const size_t in = (size_t)base->input_count;
    const size_t out = (size_t)base->output_count;
    self->status = self->call.run(self->compiled, SIGNATURE, in, self->inputs + sample * in, out,
                                  self->outputs + sample * out);
    return self->status == 0 ? 0 : -1;
}

static const char *status_name(int status) {
    static const struct {
        int status;
        const char *name;
    } names[] = {
        {1, "invalid argument"},       {2, "out of memory"},
        {3, "runtime failure"},        {4, "missing input tensor"},
        {5, "unsupported"},            {6, "not found"},
        {8, "wrong version"},          {500, "the file cannot be read"},
        {501, "not a valid flatbuffer"}, {502, "a library cannot be loaded"},
        {504, "compilation failed"},   {1000, "index out of bounds"},
        {4000, "unsupported runtime version"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].status == status) {
            return names[i].name;
        }
    }
    return "failed";
}

/* LiteRT's status says little; what its kernels reported is appended where there is any. */
static int refuse(struct litert_session *self, const char *what, int status, char *message) {
    char *reported = NULL;
    if (self->compiled != NULL && self->call.errors(self->compiled, &reported) == 0 &&
        reported != NULL && reported[0] != '\0') {
        assay_fail(message, "%s: %s (LiteRtStatus %d): %s", what,
                   status_name(status), status, reported);
        self->call.clear_errors(self->compiled);
    } else {
        assay_fail(message, "%s: %s (LiteRtStatus %d)", what,
                   status_name(status), status);
    }
    free(reported);
    return -1;
}

static void explain(struct assay_session *base) {
    struct litert_session *self = (struct litert_session *)base;
    refuse(self, "LiteRtRunCompiledModel", self->status, base->message);
}

#define TRY(what, call)                                                                           \
    do {                                                                                          \
        const int status_ = (call);                                                               \
        if (status_ != 0)                                                                         \
            return refuse(self, what, status_, message);                                          \
    } while (0)

/* Type 0 stands for what is no ranked tensor. */
static int describe(struct assay_session *base, int output, int64_t index, char *name,
                    struct assay_tensor *tensor) {
    struct litert_session *self = (struct litert_session *)base;
    char *message = base->message;
    const struct functions *call = &self->call;
    const size_t at = (size_t)index;
    const char *found = NULL;
    handle described = NULL;
    int kind = RANKED;
    struct ranked_type type;
    TRY("reading a tensor's name", (output ? call->output_name : call->input_name)(
                                       self->signature, at, &found));
    TRY("reading a tensor", (output ? call->output_tensor : call->input_tensor)(
                                self->signature, at, &described));
    if (strlen(found) >= ASSAY_NAME_BYTES) {
        return assay_fail(message, "a tensor's name is longer than %d bytes",
                          ASSAY_NAME_BYTES - 1);
    }
    strcpy(name, found);
    memset(tensor, 0, sizeof *tensor);
    TRY("reading a tensor's type", call->type_kind(described, &kind));
    if (kind != RANKED) {
        return 0;
    }
    TRY("reading a tensor's type", call->ranked_type(described, &type));
    tensor->type = type.element;
    tensor->rank = type.layout.rank;
    for (int i = 0; i < tensor->rank; i++) {
        tensor->dims[i] = type.layout.dimensions[i];
    }
    return 0;
}

/* Gives the inputs their shapes and reads the outputs' back; nothing is run. */
static int resize(struct assay_session *base, const struct assay_tensor *inputs,
                  struct assay_tensor *outputs) {
    struct litert_session *self = (struct litert_session *)base;
    char *message = base->message;
    const int64_t out = base->output_count;
    for (int64_t i = 0; i < base->input_count; i++) {
        int dims[LITERT_MAX_RANK];
        for (int d = 0; d < inputs[i].rank && d < LITERT_MAX_RANK; d++) {
            dims[d] = (int)inputs[i].dims[d];
        }
        TRY("LiteRtCompiledModelResizeInputTensor",
            self->call.resize_input(self->compiled, SIGNATURE, (size_t)i, dims,
                                    (size_t)inputs[i].rank));
    }
    struct layout *layouts = calloc((size_t)out + 1, sizeof *layouts);
    if (layouts == NULL) {
        return assay_fail(message, "out of memory");
    }
    const int status =
        self->call.output_layouts(self->compiled, SIGNATURE, (size_t)out, layouts, true);
    for (int64_t i = 0; i < out && status == 0; i++) {
        outputs[i].rank = layouts[i].rank;
        for (int d = 0; d < outputs[i].rank; d++) {
            outputs[i].dims[d] = layouts[i].dimensions[d];
        }
    }
    free(layouts);
    TRY("LiteRtGetCompiledModelOutputTensorLayouts", status);
    return 0;
}

static void unbind(struct litert_session *self) {
    const int64_t in = self->base.sample_count * self->base.input_count;
    const int64_t out = self->base.sample_count * self->base.output_count;
    for (int64_t i = 0; self->inputs != NULL && i < in; i++) {
        if (self->inputs[i] != NULL) {
            self->call.destroy_buffer(self->inputs[i]);
        }
    }
    for (int64_t i = 0; self->outputs != NULL && i < out; i++) {
        if (self->outputs[i] != NULL) {
            self->call.destroy_buffer(self->outputs[i]);
        }
    }
    free(self->inputs);
    free(self->outputs);
    self->inputs = NULL;
    self->outputs = NULL;
    self->base.sample_count = 0;
}

static int make_buffer(struct litert_session *self, const struct assay_tensor *tensor,
                       handle *buffer) {
    char *message = self->base.message;
    struct ranked_type type;
    memset(&type, 0, sizeof type);
    if (tensor->rank > LITERT_MAX_RANK) {
        return assay_fail(message, "rank %d is beyond LiteRT's %d",
                          tensor->rank, LITERT_MAX_RANK);
    }
    type.element = tensor->type;
    type.layout.rank = (unsigned int)tensor->rank & 0x7f;
    for (int i = 0; i < tensor->rank; i++) {
        type.layout.dimensions[i] = (int32_t)tensor->dims[i];
    }
    TRY("LiteRtCreateTensorBufferFromHostMemory",
        self->call.buffer_from_memory(&type, tensor->data, (size_t)tensor->bytes, NULL, buffer));
    return 0;
}

static int bind(struct assay_session *base, int64_t samples, const struct assay_tensor *inputs,
                const struct assay_tensor *outputs) {
    struct litert_session *self = (struct litert_session *)base;
    unbind(self);
    const int64_t in = samples * base->input_count;
    const int64_t out = samples * base->output_count;
    self->inputs = calloc((size_t)in + 1, sizeof *self->inputs);
    self->outputs = calloc((size_t)out + 1, sizeof *self->outputs);
    if (self->inputs == NULL || self->outputs == NULL) {
        unbind(self);
        return assay_fail(base->message, "out of memory");
    }
    base->sample_count = samples;
    int result = 0;
    for (int64_t i = 0; i < in && result == 0; i++) {
        result = make_buffer(self, &inputs[i], &self->inputs[i]);
    }
    for (int64_t i = 0; i < out && result == 0; i++) {
        result = make_buffer(self, &outputs[i], &self->outputs[i]);
    }
    if (result != 0) {
        unbind(self);
    }
    return result;
}

static void close_session(struct assay_session *base) {
    struct litert_session *self = (struct litert_session *)base;
    unbind(self);
    if (self->compiled != NULL) {
        self->call.destroy_compiled(self->compiled);
    }
    if (self->model != NULL) {
        self->call.destroy_model(self->model);
    }
    if (self->environment != NULL) {
        self->call.destroy_environment(self->environment);
    }
    if (self->file != NULL) {
        munmap(self->file, self->file_bytes);
    }
    free(self);
}

/* Options travel as TOML text under an accelerator's identifier. */
static int add_text(struct litert_session *self, handle options, const char *identifier,
                    const char *text, char *message) {
    handle opaque = NULL;
    char *copy = strdup(text);
    if (copy == NULL) {
        return assay_fail(message, "out of memory");
    }
    const int status = self->call.create_opaque(identifier, copy, free, &opaque);
    if (status != 0) {
        free(copy);
        return refuse(self, "LiteRtCreateOpaqueOptions", status, message);
    }
    TRY("LiteRtAddOpaqueOptions", self->call.add_opaque(options, opaque));
    return 0;
}

static int compile(struct litert_session *self, handle options, int32_t threads, char *message) {
    char cpu[64];
    char runtime[64];
    snprintf(cpu, sizeof cpu, "num_threads = %d\n", (int)threads);
    snprintf(runtime, sizeof runtime, "error_reporter_mode = %d\n", REPORT_TO_BUFFER);
    TRY("LiteRtSetOptionsHardwareAccelerators", self->call.set_accelerators(options, CPU));
    if (add_text(self, options, "xnnpack", cpu, message) != 0 ||
        add_text(self, options, "runtime_options_string", runtime, message) != 0) {
        return -1;
    }
    TRY("LiteRtCreateCompiledModel",
        self->call.compile(self->environment, self->model, options, &self->compiled));
    return 0;
}

static int map_file(struct litert_session *self, const char *model, char *message) {
    struct stat stat;
    const int file = open(model, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &stat) != 0) {
        assay_fail(message, "%s", strerror(errno));
        if (file >= 0) {
            close(file);
        }
        return -1;
    }
    self->file_bytes = (size_t)stat.st_size;
    void *mapped = mmap(NULL, self->file_bytes, PROT_READ, MAP_PRIVATE, file, 0);
    const int reason = errno;
    close(file);
    if (mapped == MAP_FAILED) {
        return assay_fail(message, "%s",
                          self->file_bytes == 0 ? "the file is empty" : strerror(reason));
    }
    self->file = mapped;
    return 0;
}

static int open_session(struct litert_session *self, const char *model, int32_t threads,
                        char *message) {
    /* Only the CPU: searching for the other accelerators loads libraries and takes memory. */
    const struct environment_option environment[2] = {
        {ACCELERATORS_TAG, {ANY_INT, {CPU}}},
        {LOG_SEVERITY_TAG, {ANY_INT, {LOG_WARNING}}},
    };
    handle options = NULL;
    size_t found = 0;
    TRY("LiteRtCreateEnvironment",
        self->call.create_environment(2, environment, &self->environment));
    /* Not ...FromFile, which maps the file too but does not check it, and crashes on a damaged
     * one (seen on 2.3.0). */
    if (map_file(self, model, message) != 0) {
        return -1;
    }
    TRY("LiteRtCreateModelFromBuffer",
        self->call.create_model(self->environment, self->file, self->file_bytes, &self->model));
    TRY("LiteRtGetNumModelSignatures", self->call.signatures(self->model, &found));
    if (found != 1) {
        return assay_fail(message, "the model has %zu signatures; the native loop runs models of one",
                          found);
    }
    TRY("LiteRtGetModelSignature",
        self->call.signature(self->model, SIGNATURE, &self->signature));
    TRY("LiteRtGetNumSignatureInputs", self->call.input_count(self->signature, &found));
    self->base.input_count = (int64_t)found;
    TRY("LiteRtGetNumSignatureOutputs", self->call.output_count(self->signature, &found));
    self->base.output_count = (int64_t)found;
    TRY("LiteRtCreateOptions", self->call.create_options(&options));
    const int result = compile(self, options, threads, message);
    self->call.destroy_options(options);
    return result;
}

/* Opens `model`; `message` holds ASSAY_MESSAGE_BYTES. Returns 1 where the library is not one this
 * file speaks to, -1 where it refuses the model. */
ASSAY_PUBLIC int assay_litert_open(const char *library, const char *model, int32_t threads,
                                   struct assay_session **out, char *message) {
    struct litert_session *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return assay_fail(message, "out of memory");
    }
    void *functions[SYMBOL_COUNT];
    if (assay_symbols(library, symbols, functions, SYMBOL_COUNT, message) != 0) {
        free(self);
        return ASSAY_ABSENT;
    }
    memcpy(&self->call, functions, sizeof self->call);
    const struct assay_session base = {
        .run = run, .explain = explain, .describe = describe,
        .resize = resize, .bind = bind, .close = close_session,
    };
    self->base = base;
    if (open_session(self, model, threads, message) != 0) {
        close_session(&self->base);
        return -1;
    }
    *out = &self->base;
    return 0;
}
