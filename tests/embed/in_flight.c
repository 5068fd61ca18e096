/* in_flight MODEL SEED: many requests in flight from several threads, each of which must get exactly its own result,
 * the bits of taille_model_run; then every other way in which a request can end. The model is that of bad_arguments:
 * ids int64 [batch] below 10 and x float32 [batch, 4] give y float32 [batch, 3] and mean float32 [batch], batch
 * at most 4. Prints what was not as it must be; ends with 0 where there was nothing. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <taille/taille.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, KINDS = 48, REQUESTS = 400, MOST = 16, SAMPLES = 3, LIMIT = 4 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all that callbacks write */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int failures = 0;
static taille_model* model;

#define SAY(...) (pthread_mutex_lock(&mutex), printf(__VA_ARGS__), ++failures, pthread_mutex_unlock(&mutex))

static void expect(int line, taille_status given, taille_status wanted) {
  if (given == wanted) return;
  SAY("line %d: %s (%s); wanted %s\n", line, taille_status_text(given), taille_last_error(),
      taille_status_text(wanted));
}
#define EXPECT(call, status) expect(__LINE__, call, status)
#define WORKS(call) expect(__LINE__, call, TAILLE_OK)
static void holds(int line, int is_so, const char* what) {
  if (!is_so) SAY("line %d: not %s\n", line, what);
}
#define HOLDS(what) holds(__LINE__, (what) != 0, #what)

/* A request with what it is to get. Some have an id outside the table: they fail, and their neighbours do not. */
typedef struct kind {
  int64_t ids[SAMPLES];
  float x[SAMPLES * 4], y[SAMPLES * 3], mean[SAMPLES];
  taille_tensor in[2];
  int64_t samples;
  taille_status status;
} kind;

static kind kinds[KINDS];

static void make_kind(kind* k, unsigned* seed, int bad) {
  k->samples = k == kinds ? 2 : 1 + rand_r(seed) % SAMPLES; /* the first is for all but of_many */
  for (int i = 0; i < SAMPLES; ++i) k->ids[i] = rand_r(seed) % 10;
  for (int i = 0; i < SAMPLES * 4; ++i) k->x[i] = (float)rand_r(seed) / (float)RAND_MAX - 0.5f;
  if (bad) k->ids[k->samples - 1] = 10;
  const size_t n = (size_t)k->samples;
  const taille_tensor in[2] = {{k->ids, n * 8, TAILLE_INT64, 1, {k->samples}},
                               {k->x, n * 16, TAILLE_FLOAT32, 2, {k->samples, 4}}};
  memcpy(k->in, in, sizeof in);
  taille_tensor out[2] = {{k->y, sizeof k->y, 0, 0, {0}}, {k->mean, sizeof k->mean, 0, 0, {0}}};
  k->status = taille_model_run(model, k->in, 2, out, 2);
  EXPECT(k->status, bad ? TAILLE_INVALID_ARGUMENT : TAILLE_OK);
}

/* Whether this is what the request is to get. */
static int is_own(const kind* k, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  const size_t n = (size_t)k->samples;
  if (status != TAILLE_OK) return status == k->status && !out && !count && strstr(error, "is outside");
  return k->status == TAILLE_OK && count == 2 && !*error && out[0].dtype == TAILLE_FLOAT32 && out[0].rank == 2 &&
         out[0].dims[0] == k->samples && out[0].dims[1] == 3 && out[0].bytes == n * 12 && out[1].rank == 1 &&
         out[1].dims[0] == k->samples && out[1].bytes == n * 4 && !memcmp(out[0].data, k->y, n * 12) &&
         !memcmp(out[1].data, k->mean, n * 4);
}

typedef struct caller {
  taille_runner* runner;
  unsigned seed;
  int in_flight, told;
  pthread_t thread;
} caller;

typedef struct call {
  const kind* kind;
  caller* caller;
  uint64_t request;
  int told, cancelled; /* how often; by this thread */
} call;

static void own_done(void* user_data, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  call* c = (call*)user_data;
  if (status == TAILLE_CANCELLED ? out || count || !strstr(error, "was cancelled")
                                 : !is_own(c->kind, status, out, count, error))
    SAY("a request got what is not its own: %s %s\n", taille_status_text(status), error);
  pthread_mutex_lock(&mutex);
  if (status == TAILLE_CANCELLED) ++c->cancelled;
  if (c->told++) printf("a request was told twice\n"), ++failures;
  --c->caller->in_flight;
  ++c->caller->told;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static void run_now(taille_runner* runner, const kind* k) {
  float y[SAMPLES * 3], mean[SAMPLES];
  taille_tensor out[2] = {{y, sizeof y, 0, 0, {0}}, {mean, sizeof mean, 0, 0, {0}}};
  const taille_status status = taille_runner_run(runner, k->in, 2, 0, 0, out, 2);
  out[0].bytes = (size_t)k->samples * 12, out[1].bytes = (size_t)k->samples * 4;
  if (status ? !is_own(k, status, NULL, 0, taille_last_error()) : !is_own(k, status, out, 2, ""))
    SAY("taille_runner_run gave what is not its own: %s\n", taille_status_text(status));
}

static void* many(void* self) {
  caller* own = (caller*)self;
  call* calls = (call*)calloc(REQUESTS, sizeof(call));
  int cancelled = 0, submitted = 0;
  for (int i = 0; i < REQUESTS; ++i) {
    const kind* k = &kinds[rand_r(&own->seed) % KINDS];
    if (i % 8 == 7) {
      run_now(own->runner, k);
      continue;
    }
    pthread_mutex_lock(&mutex);
    while (own->in_flight == MOST) pthread_cond_wait(&changed, &mutex);
    ++own->in_flight;
    pthread_mutex_unlock(&mutex);
    const call one = {k, own, 0, 0, 0};
    calls[i] = one;
    uint64_t request = 0; /* of its own, as done may come before it is known */
    WORKS(taille_runner_submit(own->runner, k->in, 2, 0, (int32_t)(i % 3), own_done, &calls[i], &request));
    ++submitted;
    int32_t did = 0;
    if (i % 16 == 3) WORKS(taille_runner_cancel(own->runner, request, &did));
    cancelled += did;
  }
  pthread_mutex_lock(&mutex);
  while (own->in_flight > 0) pthread_cond_wait(&changed, &mutex);
  for (int i = 0; i < REQUESTS; ++i) cancelled -= calls[i].cancelled;
  pthread_mutex_unlock(&mutex);
  HOLDS(own->told == submitted);
  HOLDS(cancelled == 0);
  free(calls);
  return NULL;
}

static void of_many(taille_runner* runner, unsigned seed) {
  caller callers[THREADS];
  for (int t = 0; t < THREADS; ++t) {
    const caller one = {runner, seed + (unsigned)t, 0, 0, pthread_self()};
    callers[t] = one;
    pthread_create(&callers[t].thread, NULL, many, &callers[t]);
  }
  for (int t = 0; t < THREADS; ++t) pthread_join(callers[t].thread, NULL);
}

/* A callback that holds its stream until the gate is opened: with one stream, all that comes after it waits. */
typedef struct gate {
  taille_runner* runner;
  int entered, open;
} gate;

static void at_gate(void* user_data, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  gate* g = (gate*)user_data;
  (void)out, (void)count, (void)error;
  EXPECT(status, TAILLE_OK);
  EXPECT(taille_runner_drain(g->runner, 0), TAILLE_INVALID_ARGUMENT);
  EXPECT(taille_runner_close(g->runner, 0), TAILLE_INVALID_ARGUMENT);
  EXPECT(taille_runner_run(g->runner, kinds[0].in, 2, 0, 0, NULL, 2), TAILLE_INVALID_ARGUMENT);
  HOLDS(strstr(taille_last_error(), "from a callback") != NULL);
  pthread_mutex_lock(&mutex);
  g->entered = 1;
  pthread_cond_broadcast(&changed);
  while (!g->open) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
}

static void await(const int* what, int value) {
  pthread_mutex_lock(&mutex);
  while (*what != value) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
}

static void close_in(gate* g) {
  WORKS(taille_runner_submit(g->runner, kinds[0].in, 2, 0, 0, at_gate, g, NULL));
  await(&g->entered, 1);
}

static void open_up(gate* g) {
  pthread_mutex_lock(&mutex);
  g->open = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

/* A callback that keeps its status; -1 before that. */
static void keep(void* user_data, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  (void)out, (void)count, (void)error;
  pthread_mutex_lock(&mutex);
  *(int*)user_data = (int)status;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static taille_runner* opened(int64_t queue_size) {
  taille_runner* runner = NULL;
  taille_runner_options options;
  WORKS(taille_runner_defaults(model, &options));
  options.queue_size = queue_size;
  WORKS(taille_runner_open(model, &options, &runner));
  run_now(runner, &kinds[0]); /* what it costs is known from now on */
  return runner;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void of_refusals(void) {
  taille_runner* runner = opened(3);
  gate g = {runner, 0, 0};
  int first = -1, second = -1, late = -1, refused = -1;
  uint64_t number = 0;
  int32_t did = -1;
  EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 1e-9, 0, keep, &refused, NULL), TAILLE_DEADLINE);
  close_in(&g);
  const double start = now();
  const struct timespec a_moment = {0, 1000000};
  WORKS(taille_runner_submit(runner, kinds[0].in, 2, 0.25, 0, keep, &late, NULL));
  WORKS(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &first, &number));
  WORKS(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &second, NULL));
  EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &refused, NULL), TAILLE_QUEUE_FULL);
  HOLDS(strstr(taille_last_error(), "taille_runner_submit: the queue is full") != NULL);
  WORKS(taille_runner_cancel(runner, number, &did));
  HOLDS(did == 1 && first == TAILLE_CANCELLED);
  HOLDS(strstr(taille_last_error(), "the queue is full") != NULL); /* what is cancelled is no failure of this thread */
  WORKS(taille_runner_cancel(runner, number, &did));
  HOLDS(did == 0);
  WORKS(taille_runner_cancel(runner, UINT64_MAX, NULL));
  EXPECT(taille_runner_drain(runner, 0.001), TAILLE_DEADLINE);
  EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &refused, NULL), TAILLE_CLOSED);
  while (now() < start + 0.25) nanosleep(&a_moment, NULL);
  open_up(&g);
  WORKS(taille_runner_drain(runner, -1));
  HOLDS(late == TAILLE_DEADLINE && second == TAILLE_OK && refused == -1);
  taille_runner_stats s;
  WORKS(taille_runner_get_stats(runner, &s));
  HOLDS(s.submitted == 5 && s.completed == 3 && s.cancelled == 1 && s.expired == 1 && s.failed == 0);
  HOLDS(s.refused_full == 1 && s.refused_deadline == 1 && s.in_flight == 0 && s.queue_depth == 0 && s.queue_peak == 3);
  HOLDS(s.samples == 3 * (uint64_t)kinds[0].samples && s.latency_p99 >= s.latency_p50 && s.latency_p50 > 0);
  WORKS(taille_runner_close(runner, -1));
  EXPECT(taille_runner_close(runner, -1), TAILLE_INVALID_ARGUMENT);
}

/* What waits goes together, and no batch is larger than the model's own limit. */
static void of_limits(void) {
  taille_runner* runner = opened(8);
  gate g = {runner, 0, 0};
  int waiting[6];
  close_in(&g);
  for (int i = 0; i < 6; ++i) WORKS(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &waiting[i], NULL));
  open_up(&g);
  WORKS(taille_runner_drain(runner, -1));
  for (int i = 0; i < 6; ++i) HOLDS(waiting[i] == TAILLE_OK);
  taille_runner_stats s;
  WORKS(taille_runner_get_stats(runner, &s));
  HOLDS(s.batches == 1 + 1 + 6 * 2 / LIMIT); /* opened(), the gate, those that waited */
  WORKS(taille_runner_close(runner, -1));
}

static void* closes(void* runner) {
  WORKS(taille_runner_close((taille_runner*)runner, 0));
  return NULL;
}

static void of_closing(void) {
  taille_runner* runner = opened(8);
  gate g = {runner, 0, 0};
  int waiting[2] = {-1, -1}, refused = -1;
  pthread_t thread;
  close_in(&g);
  for (int i = 0; i < 2; ++i) WORKS(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &waiting[i], NULL));
  pthread_create(&thread, NULL, closes, runner);
  for (int i = 0; i < 2; ++i) await(&waiting[i], TAILLE_CANCELLED);
  EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &refused, NULL), TAILLE_CLOSED);
  open_up(&g); /* what runs is waited for */
  pthread_join(thread, NULL);
  EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &refused, NULL), TAILLE_INVALID_ARGUMENT);
  HOLDS(refused == -1);
}

static void of_forking(void) {
  taille_runner* runner = opened(8);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    int never = -1;
    taille_tensor out[2] = {{calloc(9, 4), 36, 0, 0, {0}}, {calloc(3, 4), 12, 0, 0, {0}}};
    taille_runner_stats stats;
    failures = 0;
    EXPECT(taille_runner_submit(runner, kinds[0].in, 2, 0, 0, keep, &never, NULL), TAILLE_CLOSED);
    EXPECT(taille_runner_run(runner, kinds[0].in, 2, 0, 0, out, 2), TAILLE_CLOSED);
    EXPECT(taille_runner_cancel(runner, 1, NULL), TAILLE_CLOSED);
    EXPECT(taille_runner_drain(runner, -1), TAILLE_CLOSED);
    EXPECT(taille_runner_get_stats(runner, &stats), TAILLE_CLOSED);
    WORKS(taille_runner_close(runner, -1));
    EXPECT(taille_runner_close(runner, -1), TAILLE_INVALID_ARGUMENT);
    runner = opened(8); /* its own */
    WORKS(taille_runner_close(runner, -1));
    HOLDS(never == -1);
    fflush(stdout);
    _exit(failures != 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  run_now(runner, &kinds[0]); /* the parent's goes on */
  WORKS(taille_runner_close(runner, -1));
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  unsigned seed = (unsigned)strtoul(argv[2], NULL, 10);
  if (taille_model_open(argv[1], 1, &model)) return 3;
  make_kind(&kinds[0], &seed, 0);
  for (int i = 1; i < KINDS; ++i) make_kind(&kinds[i], &seed, i % 12 == 0);
  of_refusals();
  of_limits();
  of_closing();
  of_forking();
  taille_runner* runner = NULL;
  taille_runner_options options;
  taille_runner_stats s;
  WORKS(taille_runner_defaults(model, &options));
  options.streams = 2;
  WORKS(taille_runner_open(model, &options, &runner));
  WORKS(taille_model_close(model)); /* the runner keeps what it needs */
  of_many(runner, seed);
  WORKS(taille_runner_drain(runner, -1));
  WORKS(taille_runner_get_stats(runner, &s));
  HOLDS(s.submitted == THREADS * REQUESTS && s.submitted == s.completed + s.failed + s.cancelled);
  WORKS(taille_runner_close(runner, -1));
  return failures != 0;
}
