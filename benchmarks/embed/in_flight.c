/* in_flight MODEL PAIRS REQUESTS STREAMS: seconds of so many synchronous calls of a model with one float32 input and
 * output, one sample each, and of as many requests through a runner, 64 of them in flight. For each pair a line
 * "together SECONDS SECONDS", their order changes; then the mean number of samples in a batch, "batch SAMPLES". Then
 * for a call and for a request that comes alone and is waited for "alone SECONDS SECONDS", each the mean of a few in a
 * row, so that both find what they need in the caches. All outputs are compared. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <taille/taille.h>
#include <time.h>

enum { IN_FLIGHT = 64, IN_A_ROW = 16, LONE = 200 };

typedef struct slot {
  taille_tensor in, wanted;
  int wrong;
} slot;

static slot slots[IN_FLIGHT];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static slot* idle[IN_FLIGHT];
static int idle_count = 0;

static void check(taille_status status) {
  if (status == TAILLE_OK) return;
  fprintf(stderr, "%s: %s\n", taille_status_text(status), taille_last_error());
  exit(1);
}

static void* allocated(size_t bytes) {
  void* memory = malloc(bytes);
  if (!memory) exit(2);
  return memory;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill_slots(taille_model* model) {
  taille_tensor_info info;
  check(taille_model_input(model, 0, &info));
  size_t count = 1;
  for (int32_t d = 1; d < info.rank; ++d) count *= (size_t)info.dims[d];
  for (int i = 0; i < IN_FLIGHT; ++i) {
    slot* s = &slots[i];
    s->in.dtype = TAILLE_FLOAT32, s->in.rank = info.rank, s->in.bytes = 4 * count;
    memcpy(s->in.dims, info.dims, sizeof info.dims);
    s->in.dims[0] = 1;
    float* data = s->in.data = allocated(4 * count);
    for (size_t k = 0; k < count; ++k) data[k] = (float)rand() / (float)RAND_MAX * 4 - 2;
    check(taille_model_infer(model, &s->in, 1, &s->wanted, 1));
    s->wanted.data = allocated(s->wanted.bytes);
    check(taille_model_run(model, &s->in, 1, &s->wanted, 1));
  }
}

static double synchronous(taille_model* model, int requests) {
  taille_tensor out = slots[0].wanted;
  out.data = allocated(out.bytes);
  const double start = now();
  for (int i = 0; i < requests; ++i) {
    slot* s = &slots[i % IN_FLIGHT];
    check(taille_model_run(model, &s->in, 1, &out, 1));
    s->wrong |= memcmp(out.data, s->wanted.data, out.bytes);
  }
  const double seconds = now() - start;
  free(out.data);
  return seconds;
}

/* Seconds of a request that comes alone: of a runner, or of the model where there is none. */
static double lone(taille_model* model, taille_runner* runner, taille_tensor* out) {
  const double start = now();
  for (int i = 0; i < IN_A_ROW; ++i) {
    slot* s = &slots[i % IN_FLIGHT];
    check(runner ? taille_runner_run(runner, &s->in, 1, 0, 0, out, 1) : taille_model_run(model, &s->in, 1, out, 1));
    s->wrong |= memcmp(out->data, s->wanted.data, out->bytes);
  }
  return (now() - start) / IN_A_ROW;
}

static void done(void* user_data, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  slot* s = user_data;
  (void)error;
  s->wrong |= status != TAILLE_OK || count != 1 || memcmp(out->data, s->wanted.data, s->wanted.bytes);
  pthread_mutex_lock(&mutex);
  idle[idle_count++] = s;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&mutex);
}

static double in_flight(taille_runner* runner, int requests) {
  idle_count = IN_FLIGHT;
  for (int i = 0; i < IN_FLIGHT; ++i) idle[i] = &slots[i];
  const double start = now();
  for (int i = 0; i < requests; ++i) {
    pthread_mutex_lock(&mutex);
    while (idle_count == 0) pthread_cond_wait(&changed, &mutex);
    slot* s = idle[--idle_count];
    pthread_mutex_unlock(&mutex);
    check(taille_runner_submit(runner, &s->in, 1, 0, 0, done, s, NULL));
  }
  pthread_mutex_lock(&mutex);
  while (idle_count < IN_FLIGHT) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  return now() - start;
}

int main(int argc, char** argv) {
  if (argc != 5) return 3;
  const int pairs = atoi(argv[2]), requests = atoi(argv[3]);
  taille_model* model;
  taille_runner* runner;
  taille_runner_options options;
  taille_runner_stats stats;
  check(taille_model_open(argv[1], 1, &model));
  check(taille_runner_defaults(model, &options));
  options.streams = atoi(argv[4]);
  check(taille_runner_open(model, &options, &runner));
  fill_slots(model);
  for (int i = -2; i < pairs; ++i) { /* two to warm up */
    double alone = i % 2 ? synchronous(model, requests) : 0;
    const double together = in_flight(runner, requests);
    if (i % 2 == 0) alone = synchronous(model, requests);
    if (i >= 0) printf("together %.9f %.9f\n", alone, together);
  }
  check(taille_runner_get_stats(runner, &stats));
  printf("batch %.2f\n", (double)stats.samples / (double)stats.batches);
  taille_tensor out = slots[0].wanted;
  out.data = allocated(out.bytes);
  for (int i = 0; i < LONE; ++i) {
    double direct = i % 2 ? lone(model, NULL, &out) : 0;
    const double through = lone(model, runner, &out);
    if (i % 2 == 0) direct = lone(model, NULL, &out);
    printf("alone %.9f %.9f\n", direct, through);
  }
  free(out.data);
  check(taille_runner_close(runner, -1));
  check(taille_model_close(model));
  for (int i = 0; i < IN_FLIGHT; ++i)
    if (slots[i].wrong) return 4;
  return 0;
}
