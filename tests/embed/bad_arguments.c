/* bad_arguments MODEL SEED: every argument of every function wrong once, then many random calls. The model takes ids
 * int64 [batch] and x float32 [batch, 4], batch at most 64, and gives y float32 [batch, 3] and mean float32 [batch].
 * Prints what was not as it must be; ends with 0 where there was nothing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <taille/taille.h>

static int failures = 0;

static void expect(int line, taille_status given, taille_status wanted, const char* text) {
  if (given == wanted && (wanted == TAILLE_OK || strstr(taille_last_error(), text))) return;
  printf("line %d: %s (%s); wanted %s with '%s'\n", line, taille_status_text(given), taille_last_error(),
         taille_status_text(wanted), text);
  ++failures;
}
#define REFUSED(call, text) expect(__LINE__, call, TAILLE_INVALID_ARGUMENT, text)
#define WORKS(call) expect(__LINE__, call, TAILLE_OK, "")

static int64_t ids[64];
static float x[64 * 4], y[64 * 3], mean[64];
static taille_tensor in[2], out[2];

static void fill_in(void) {
  const taille_tensor good_in[2] = {{ids, 2 * sizeof(int64_t), TAILLE_INT64, 1, {2}},
                                    {x, 2 * 4 * sizeof(float), TAILLE_FLOAT32, 2, {2, 4}}};
  const taille_tensor good_out[2] = {{y, sizeof y, 0, 0, {0}}, {mean, sizeof mean, 0, 0, {0}}};
  memcpy(in, good_in, sizeof in);
  memcpy(out, good_out, sizeof out);
}

static void of_opening(const char* path) {
  taille_model* model = (taille_model*)1;
  expect(__LINE__, taille_model_open("/no/such/file", 1, &model), TAILLE_ARTEFACT_ERROR, "/no/such/file: cannot be");
  if (model) printf("a model that was not opened is not NULL\n"), ++failures;
  expect(__LINE__, taille_model_open("/", 1, &model), TAILLE_ARTEFACT_ERROR, "is a directory");
  REFUSED(taille_model_open(NULL, 1, &model), "path is NULL");
  REFUSED(taille_model_open(path, 1, NULL), "model is NULL");
  REFUSED(taille_model_open(path, -1, &model), "threads is -1");
  REFUSED(taille_model_open(path, INT32_MAX, &model), "threads is 2147483647");
  REFUSED(taille_model_close((taille_model*)&failures), "model is not open");
  WORKS(taille_model_close(NULL));
  if (strcmp(taille_status_text(-7), "unknown status")) printf("a status of -7 has a text\n"), ++failures;
}

static void of_describing(const taille_model* model) {
  size_t inputs, outputs;
  int32_t threads;
  taille_tensor_info info;
  WORKS(taille_model_counts(model, &inputs, &outputs));
  if (inputs != 2 || outputs != 2) printf("%zu inputs, %zu outputs\n", inputs, outputs), ++failures;
  REFUSED(taille_model_counts(NULL, &inputs, &outputs), "model is NULL");
  REFUSED(taille_model_counts(model, NULL, &outputs), "inputs is NULL");
  REFUSED(taille_model_counts(model, &inputs, NULL), "outputs is NULL");
  REFUSED(taille_model_input(model, 2, &info), "the model has 2 inputs; index is 2");
  REFUSED(taille_model_output(model, (size_t)-1, &info), "the model has 2 outputs; index is");
  REFUSED(taille_model_input(model, 0, NULL), "info is NULL");
  REFUSED(taille_model_threads(model, NULL), "threads is NULL");
  WORKS(taille_model_threads(model, &threads));
}

static void of_shapes(taille_model* model) {
  fill_in();
  WORKS(taille_model_run(model, in, 2, out, 2));
  if (out[0].rank != 2 || out[0].dims[0] != 2 || out[0].dims[1] != 3 || out[1].dtype != TAILLE_FLOAT32)
    printf("a run does not say what it gave\n"), ++failures;
#define WITH(change, text) \
  fill_in();               \
  change;                  \
  REFUSED(taille_model_run(model, in, 2, out, 2), text)
  WITH(in[0].dtype = TAILLE_INT32, "input 'ids' is int32; wanted int64");
  WITH(in[0].dtype = 0, "input 'ids' is no dtype (0)");
  WITH(in[1].rank = -1, "input 'x': rank is -1");
  WITH(in[1].rank = 9, "input 'x': rank is 9");
  WITH(in[1].rank = 1; in[1].bytes = 8, "wanted 2");
  WITH(in[1].dims[1] = 5; in[1].bytes = 40, "wanted [batch, 4]");
  WITH(in[0].dims[0] = -1, "dimension 0 is -1; wanted at least 1");
  WITH(in[0].dims[0] = 0; in[0].bytes = 0, "dimension 0 is 0; wanted at least 1");
  WITH(in[0].dims[0] = 65; in[0].bytes = 520, "dimension 0 is 65; wanted at most 64");
  WITH(in[0].dims[0] = 3; in[0].bytes = 24, "'batch' is 3 from an earlier input");
  WITH(in[1].dims[1] = INT64_MAX, "is too large");
  WITH(in[1].bytes -= 1, "input 'x': bytes is 31; its dims are 32");
  WITH(in[1].data = NULL, "input 'x': data is NULL");
  WITH(in[1].data = (char*)x + 2, "input 'x': data is not aligned to 4 bytes");
  WITH(in[1].data = (void*)(UINTPTR_MAX - 3), "beyond the end of memory");
  WITH(out[0].bytes = 23, "output 'y': bytes is 23; 24 are needed");
  WITH(out[1].data = NULL, "output 'mean': data is NULL");
  WITH(out[1].data = (char*)mean + 1, "output 'mean': data is not aligned");
  WITH(out[1].data = y + 5, "output 'mean' shares memory with output 'y'");
  WITH(out[0].data = x + 7, "output 'y' shares memory with input 'x'");
  WITH(ids[1] = 10, "10");
  WITH(ids[1] = -1, "-1");
  ids[1] = 0;
}

static void of_counts(taille_model* model) {
  fill_in();
  REFUSED(taille_model_run(NULL, in, 2, out, 2), "model is NULL");
  REFUSED(taille_model_run(model, in, 1, out, 2), "the model takes 2 inputs; 1 were given");
  REFUSED(taille_model_run(model, in, (size_t)-1, out, 2), "the model takes 2 inputs");
  REFUSED(taille_model_run(model, in, 2, out, 3), "the model has 2 outputs; 3 were given");
  REFUSED(taille_model_run(model, NULL, 2, out, 2), "inputs is NULL");
  REFUSED(taille_model_run(model, in, 2, NULL, 2), "outputs is NULL");
  REFUSED(taille_model_infer(model, NULL, 2, out, 2), "inputs is NULL");
  REFUSED(taille_model_infer(model, in, 2, NULL, 2), "outputs is NULL");
  REFUSED(taille_model_infer(model, in, 2, out, 1), "the model has 2 outputs; 1 were given");
  REFUSED(taille_model_release(NULL), "model is NULL");
  taille_cache_stats stats;
  REFUSED(taille_model_set_cache(NULL, 1, 1), "model is NULL");
  REFUSED(taille_model_set_cache(model, -1, 1), "bytes is -1");
  REFUSED(taille_model_set_cache(model, 1, 0), "ttl is 0");
  REFUSED(taille_model_set_cache(model, 1, strtod("nan", NULL)), "ttl is nan");
  REFUSED(taille_model_get_cache_stats(NULL, &stats), "model is NULL");
  REFUSED(taille_model_get_cache_stats(model, NULL), "stats is NULL");
  WORKS(taille_model_run(model, in, 2, out, 2)); /* what was refused left the model usable */
}

static void never(void* user_data, taille_status status, const taille_tensor* outputs, size_t count,
                  const char* error) {
  (void)user_data, (void)outputs, (void)count;
  printf("a request that is wrong was answered: %s (%s)\n", taille_status_text(status), error), ++failures;
}

static void of_options(taille_model* model) {
  taille_runner_options options;
  taille_runner* runner = (taille_runner*)1;
#define OPENED_WITH(change, text)                 \
  WORKS(taille_runner_defaults(model, &options)); \
  change;                                         \
  REFUSED(taille_runner_open(model, &options, &runner), text)
  OPENED_WITH(options.streams = 0, "streams must be in 1 .. 256, got 0");
  OPENED_WITH(options.threads = -1, "threads must be in 0 .. 1");
  OPENED_WITH(options.threads = 2, "threads must be in 0 .. 1");
  OPENED_WITH(options.max_batch = -5, "max_batch must be in 1 .. 65536 samples, got -5");
  OPENED_WITH(options.timeout = strtod("nan", NULL), "timeout must be");
  OPENED_WITH(options.max_latency = 0, "max_latency must be above 0");
  OPENED_WITH(options.queue_size = INT64_MAX, "queue_size must be");
  if (runner) printf("a runner that was not opened is not NULL\n"), ++failures;
  REFUSED(taille_runner_defaults(model, NULL), "options is NULL");
  REFUSED(taille_runner_defaults(NULL, &options), "model is NULL");
  REFUSED(taille_runner_open(model, NULL, NULL), "runner is NULL");
  REFUSED(taille_runner_open(NULL, NULL, &runner), "model is NULL");
}

static void of_runners(taille_model* model) {
  taille_runner* runner;
  taille_runner_stats stats;
  const double nan = strtod("nan", NULL);
  fill_in();
  WORKS(taille_runner_open(model, NULL, &runner));
  REFUSED(taille_runner_submit(NULL, in, 2, 0, 0, never, NULL, NULL), "runner is NULL");
  REFUSED(taille_runner_submit((taille_runner*)model, in, 2, 0, 0, never, NULL, NULL), "runner is not open");
  REFUSED(taille_runner_submit(runner, NULL, 2, 0, 0, never, NULL, NULL), "inputs is NULL");
  REFUSED(taille_runner_submit(runner, in, 1, 0, 0, never, NULL, NULL), "the model takes 2 inputs; 1 were given");
  REFUSED(taille_runner_submit(runner, in, 2, -1, 0, never, NULL, NULL), "deadline is -1");
  REFUSED(taille_runner_submit(runner, in, 2, nan, 0, never, NULL, NULL), "deadline is nan");
  REFUSED(taille_runner_submit(runner, in, 2, 1e7, 0, never, NULL, NULL), "deadline must be");
  REFUSED(taille_runner_submit(runner, in, 2, 0, 0, NULL, NULL, NULL), "done is NULL");
  REFUSED(taille_runner_run(NULL, in, 2, 0, 0, out, 2), "runner is NULL");
  REFUSED(taille_runner_run(runner, in, 2, -1, 0, out, 2), "deadline is -1");
  REFUSED(taille_runner_run(runner, in, 2, 0, 0, out, 1), "the model has 2 outputs; 1 were given");
  REFUSED(taille_runner_run(runner, in, 2, 0, 0, NULL, 2), "outputs is NULL");
  REFUSED(taille_runner_cancel(NULL, 1, NULL), "runner is NULL");
  REFUSED(taille_runner_drain(NULL, 0), "runner is NULL");
  REFUSED(taille_runner_drain(runner, nan), "seconds is NaN");
  REFUSED(taille_runner_close((taille_runner*)model, 0), "runner is not open");
  REFUSED(taille_runner_close(runner, nan), "seconds is NaN");
  REFUSED(taille_runner_get_stats(NULL, &stats), "runner is NULL");
  REFUSED(taille_runner_get_stats(runner, NULL), "stats is NULL");
#define SUBMITTED_WITH(change, text) \
  fill_in();                         \
  change;                            \
  REFUSED(taille_runner_submit(runner, in, 2, 0, 0, never, NULL, NULL), text)
  SUBMITTED_WITH(in[0].dtype = TAILLE_INT32, "input 'ids' is int32; wanted int64");
  SUBMITTED_WITH(in[1].rank = 1; in[1].bytes = 8, "wanted 2");
  SUBMITTED_WITH(in[1].dims[1] = 5; in[1].bytes = 40, "wanted [batch, 4]");
  SUBMITTED_WITH(in[0].dims[0] = 65; in[0].bytes = 520, "dimension 0 is 65; wanted at most 64");
  SUBMITTED_WITH(in[0].dims[0] = 3; in[0].bytes = 24, "'batch' is 3 from an earlier input");
  SUBMITTED_WITH(in[1].bytes -= 1, "input 'x': bytes is 31; its dims are 32");
  SUBMITTED_WITH(in[1].data = NULL, "input 'x': data is NULL");
  fill_in();
  out[0].data = x + 7;
  REFUSED(taille_runner_run(runner, in, 2, 0, 0, out, 2), "output 'y' shares memory with input 'x'");
  fill_in();
  WORKS(taille_runner_run(runner, in, 2, 0, 0, out, 2)); /* what was refused left the runner usable */
  WORKS(taille_runner_get_stats(runner, &stats));
  if (stats.submitted != 1 || stats.completed != 1) printf("what was refused was counted\n"), ++failures;
  WORKS(taille_runner_close(runner, -1));
  WORKS(taille_runner_close(NULL, -1));
  REFUSED(taille_runner_get_stats(runner, &stats), "runner is not open (closed before?)");
  for (int32_t s = TAILLE_OK; s <= TAILLE_CANCELLED; ++s)
    if (!strcmp(taille_status_text(s), "unknown status")) printf("status %d has no text\n", (int)s), ++failures;
}

static void* other_thread(void* model) {
  if (taille_last_error()[0]) return "has an error that is not its own";
  taille_model_threads((taille_model*)model, NULL);
  return strstr(taille_last_error(), "threads is NULL") ? NULL : "has no error of its own";
}

static void of_threads(taille_model* model) {
  pthread_t thread;
  void* wrong = NULL;
  taille_model* none;
  REFUSED(taille_model_open(NULL, 1, &none), "path is NULL");
  pthread_create(&thread, NULL, other_thread, model);
  pthread_join(thread, &wrong);
  if (wrong) printf("another thread %s\n", (const char*)wrong), ++failures;
  if (!strstr(taille_last_error(), "path is NULL")) printf("an error went to another thread\n"), ++failures;
}

static uint64_t state;
static uint64_t draw(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % below;
}

/* Memory that is there, with honest sizes; all else is drawn. Whatever works must have been right. */
static void of_chance(taille_model* model, int rounds) {
  static const int64_t sizes[] = {
      0, 1, 2, 3, 4, 5, 64, 65, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 32, INT64_C(1) << 61};
  int worked = 0;
  for (int i = 0; i < rounds; ++i) {
    fill_in();
    for (uint64_t changes = draw(4); changes > 0; --changes) {
      taille_tensor* t = draw(4) ? &in[draw(2)] : &out[draw(2)];
      switch (draw(5)) {
        case 0:
          t->dims[draw(3)] = sizes[draw(sizeof sizes / sizeof *sizes)];
          break;
        case 1:
          t->rank = (int32_t)draw(12) - 2;
          break;
        case 2:
          t->dtype = (int32_t)draw(9) - 1;
          break;
        case 3:
          t->bytes = draw(2) ? draw(t->bytes + 1) : t->bytes;
          break;
        default:
          in[0].dims[0] = in[1].dims[0] = (int64_t)draw(66);
          in[0].bytes = 8 * (size_t)in[0].dims[0], in[1].bytes = 16 * (size_t)in[1].dims[0];
      }
    }
    const size_t inputs = draw(20) ? 2 : draw(4), outputs = draw(20) ? 2 : draw(4);
    if ((inputs == 2 || draw(2)) && taille_model_infer(model, in, inputs, out, outputs) == TAILLE_INTERNAL_ERROR)
      printf("internal error: %s\n", taille_last_error()), ++failures;
    out[0].bytes = out[0].bytes < sizeof y ? out[0].bytes : sizeof y;
    out[1].bytes = out[1].bytes < sizeof mean ? out[1].bytes : sizeof mean;
    if (in[0].bytes > sizeof ids || in[1].bytes > sizeof x) continue; /* there is no such memory */
    const taille_status status = taille_model_run(model, in, inputs, out, outputs);
    if (status == TAILLE_INVALID_ARGUMENT) continue;
    ++worked;
    const int64_t batch = in[0].dims[0];
    if (status != TAILLE_OK || inputs != 2 || outputs != 2 || in[0].dtype != TAILLE_INT64 || in[0].rank != 1 ||
        in[1].rank != 2 || batch < 1 || batch > 64 || in[1].dims[0] != batch || in[1].dims[1] != 4)
      printf("round %d: status %d for a call that is wrong\n", i, (int)status), ++failures;
  }
  if (worked < rounds / 20) printf("only %d of %d random calls worked\n", worked, rounds), ++failures;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  state = strtoull(argv[2], NULL, 10) * 2 + 1;
  taille_model* model;
  of_opening(argv[1]);
  WORKS(taille_model_open(argv[1], 1, &model));
  of_describing(model);
  of_shapes(model);
  of_counts(model);
  of_chance(model, 20000);
  of_options(model);
  of_runners(model);
  of_threads(model);
  WORKS(taille_model_close(model));
  REFUSED(taille_model_close(model), "model is not open");
  REFUSED(taille_model_run(model, in, 2, out, 2), "model is not open (closed before?)");
  return failures != 0;
}
