/* The yardstick: what a plain C program over libonnxruntime needs for one inference.
 *
 * Shares no line with the agent's native loop. It opens the library given, loads the model, times
 * calls one by one with CLOCK_MONOTONIC and writes every time, in nanoseconds, as 8-byte integers
 * to standard output. One sample, a ramp in [0, 1), for every input; float tensors of fixed shape.
 *
 *   cc -O2 -o yardstick yardstick.c -ldl
 *   yardstick LIBRARY run|binding MODEL WARMUP QUERIES
 *
 * `run` is OrtApi::Run with outputs made beforehand, `binding` OrtApi::RunWithBinding.
 * Positions in the table are those of onnxruntime_c_api.h, which only ever grows at its end.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FLOAT = 1, MOST = 8, RANK = 8 };

typedef struct {
    const void *const *(*get_api)(uint32_t);
    const char *(*get_version)(void);
} Base;

static const void *const *table;

#define CALL(position, ...) (((void *(*)(__VA_ARGS__))table[position])

static void check(void *status) {
    if (status != NULL) {
        fprintf(stderr, "yardstick: %s\n", ((const char *(*)(void *))table[2])(status));
        exit(1);
    }
}

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Makes a float tensor as the model's input or output `index` wants it and tells its name. */
static void *make_tensor(void *session, void *memory, int output, size_t index, char **name) {
    void *allocator = NULL, *type = NULL, *shape = NULL, *value = NULL;
    int element = 0;
    size_t rank = 0, elements = 1;
    int64_t dims[RANK] = {0};
    check(CALL(78, void **))(&allocator));
    check(CALL(36 + output, void *, size_t, void *, char **))(session, index, allocator, name));
    check(CALL(33 + output, void *, size_t, void **))(session, index, &type));
    check(CALL(55, void *, void **))(type, &shape));
    check(CALL(60, void *, int *))(shape, &element));
    check(CALL(61, void *, size_t *))(shape, &rank));
    if (element != FLOAT || rank > RANK) {
        fprintf(stderr, "yardstick: %s is not a float tensor of rank <= %d\n", *name, RANK);
        exit(1);
    }
    check(CALL(62, void *, int64_t *, size_t))(shape, dims, rank));
    for (size_t i = 0; i < rank; i++) {
        elements *= (size_t)dims[i];
    }
    const size_t bytes = elements * sizeof(float);
    float *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    for (size_t i = 0; i < elements; i++) {
        data[i] = output ? 0.0f : (float)i / (float)elements;
    }
    check(CALL(49, void *, void *, size_t, int64_t *, size_t, int, void **))(
        memory, data, bytes, dims, rank, FLOAT, &value));
    ((void (*)(void *))table[98])(type);
    return value;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: yardstick LIBRARY run|binding MODEL WARMUP QUERIES\n");
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "yardstick: %s\n", dlerror());
        return 1;
    }
    const Base *(*get_base)(void) = (const Base *(*)(void))dlsym(library, "OrtGetApiBase");
    table = get_base()->get_api(5);
    const int with_binding = strcmp(argv[2], "binding") == 0;
    const long warmup = atol(argv[4]), queries = atol(argv[5]);

    void *env = NULL, *options = NULL, *session = NULL, *memory = NULL, *binding = NULL;
    check(CALL(3, int, const char *, void **))(2, "yardstick", &env));
    check(CALL(10, void **))(&options));
    check(CALL(24, void *, int))(options, 1));
    check(CALL(7, void *, const char *, void *, void **))(env, argv[3], options, &session));
    check(CALL(69, int, int, void **))(1, 0, &memory));

    size_t inputs = 0, outputs = 0;
    char *input_names[MOST], *output_names[MOST];
    void *input_values[MOST], *output_values[MOST];
    check(CALL(30, void *, size_t *))(session, &inputs));
    check(CALL(31, void *, size_t *))(session, &outputs));
    if (inputs > MOST || outputs > MOST) {
        fprintf(stderr, "yardstick: more than %d inputs or outputs\n", MOST);
        return 1;
    }
    check(CALL(134, void *, void **))(session, &binding));
    for (size_t i = 0; i < inputs; i++) {
        input_values[i] = make_tensor(session, memory, 0, i, &input_names[i]);
        check(CALL(136, void *, const char *, void *))(binding, input_names[i], input_values[i]));
    }
    for (size_t i = 0; i < outputs; i++) {
        output_values[i] = make_tensor(session, memory, 1, i, &output_names[i]);
        check(CALL(137, void *, const char *, void *))(binding, output_names[i], output_values[i]));
    }

    int64_t *times = calloc((size_t)queries, sizeof *times);
    memset(times, 1, (size_t)queries * sizeof *times);
    void *(*run)(void *, void *, char **, void **, size_t, char **, size_t, void **) =
        (void *(*)(void *, void *, char **, void **, size_t, char **, size_t, void **))table[9];
    void *(*run_binding)(void *, void *, void *) = (void *(*)(void *, void *, void *))table[133];
    for (long i = -warmup; i < queries; i++) {
        const int64_t before = clock_ns();
        void *status = with_binding ? run_binding(session, NULL, binding)
                                    : run(session, NULL, input_names, input_values, inputs,
                                          output_names, outputs, output_values);
        const int64_t after = clock_ns();
        check(status);
        if (i >= 0) {
            times[i] = after - before;
        }
    }
    fwrite(times, sizeof *times, (size_t)queries, stdout);
    return 0;
}
