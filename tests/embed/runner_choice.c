/* runner_choice MODEL THREADS: the options of a runner without any, and the largest batches that it makes of requests
 * of one sample [1, 3] of float32. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <taille/taille.h>

enum { REQUESTS = 200 };

static float sample[3];

static void check(taille_status status) {
  if (status == TAILLE_OK) return;
  fprintf(stderr, "%s: %s\n", taille_status_text(status), taille_last_error());
  exit(1);
}

static void done(void* user_data, taille_status status, const taille_tensor* out, size_t count, const char* error) {
  (void)out, (void)count, (void)error;
  *(int*)user_data += status == TAILLE_OK; /* one stream: one thread calls */
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  taille_model* model;
  taille_runner* runner;
  taille_runner_options o;
  taille_runner_stats stats;
  check(taille_model_open(argv[1], atoi(argv[2]), &model));
  check(taille_runner_defaults(model, &o));
  printf("%d %d %lld %g %g\n", (int)o.streams, (int)o.threads, (long long)o.max_batch, o.timeout, o.max_latency);
  check(taille_runner_open(model, NULL, &runner));
  const taille_tensor in = {sample, sizeof sample, TAILLE_FLOAT32, 2, {1, 3}};
  int answered = 0;
  for (int i = 0; i < REQUESTS; ++i) check(taille_runner_submit(runner, &in, 1, 0, 0, done, &answered, NULL));
  check(taille_runner_drain(runner, -1));
  check(taille_runner_get_stats(runner, &stats));
  check(taille_runner_close(runner, -1));
  check(taille_model_close(model));
  printf("%d %s\n", answered, stats.batches == stats.samples ? "one by one" : "together");
  return 0;
}
