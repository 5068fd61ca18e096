/* taille in C: open an artefact, ask what it takes and gives, run it. C99; needs libtaille alone, no Python, no torch.
 *
 *   taille_model* model;
 *   if (taille_model_open("model.safetensors", 0, &model) != TAILLE_OK) { puts(taille_last_error()); exit(1); }
 *   taille_tensor in = {.data = pixels, .bytes = sizeof pixels, .dtype = TAILLE_FLOAT32, .rank = 2, .dims = {1, 256}};
 *   taille_tensor out;
 *   taille_model_infer(model, &in, 1, &out, 1);             // shape and bytes of what comes out
 *   out.data = malloc(out.bytes);
 *   taille_model_run(model, &in, 1, &out, 1);
 *   taille_model_close(model);
 *
 * Every function checks its arguments and returns a status; none throws or ends the process. What went wrong is in
 * taille_last_error(). A model that was closed, or any other number that is no open model, is refused as an argument.
 *
 * Threads: every function may be called from several threads at once, on one model or several. Calls that run one model
 * at the same time share its weights; the threads of the model serve one of them, the others run in their callers. A
 * model that is closed while it runs elsewhere is freed when that run has ended, or when its last runner is closed.
 * Where many requests come at once, a runner ("Requests in flight" below) runs them together, on threads of its own.
 *
 * After fork() the child may go on with the models it has, if at that moment no other thread was inside a function of
 * taille and no runner had a request in flight. It has no runner: what it asks of its parent's is TAILLE_CLOSED.
 */
#ifndef TAILLE_H
#define TAILLE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TAILLE_API __attribute__((visibility("default")))
#else
#define TAILLE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum taille_status {
  TAILLE_OK = 0,
  TAILLE_INVALID_ARGUMENT = 1, /* an argument, or a dtype, shape or value of an input, is not what is wanted */
  TAILLE_ARTEFACT_ERROR = 2,   /* the file cannot be read, is no artefact, is damaged or newer than this version */
  TAILLE_ISA_ERROR = 3,        /* TAILLE_ISA names a CPU level that does not exist, or that this CPU lacks */
  TAILLE_OUT_OF_MEMORY = 4,
  TAILLE_INTERNAL_ERROR = 5, /* a fault of taille; please report the text */
  TAILLE_QUEUE_FULL = 6,     /* of a runner: as many requests wait as may */
  TAILLE_DEADLINE = 7,       /* what was asked for cannot be done, or was not done, in time */
  TAILLE_CLOSED = 8,         /* the runner takes no more requests, or belongs to the process this one was forked off */
  TAILLE_CANCELLED = 9       /* the request was taken out of the queue */
} taille_status;

/* Element types; 0 is none, so that a tensor that was never filled in is refused. */
typedef enum taille_dtype {
  TAILLE_FLOAT32 = 1,
  TAILLE_UINT8 = 2,
  TAILLE_INT8 = 3,
  TAILLE_INT32 = 4,
  TAILLE_INT64 = 5,
  TAILLE_BOOL = 6 /* a byte, 0 or 1 */
} taille_dtype;

enum { TAILLE_MAX_RANK = 8, TAILLE_DYNAMIC = -1 };

/* An array of a call: row-major, without gaps, in memory of the caller's, aligned as its elements are. */
typedef struct taille_tensor {
  void* data;    /* only read where it is an input; may be NULL where there are no bytes */
  size_t bytes;  /* how many are there: exactly those of dims for an input, at least those for an output */
  int32_t dtype; /* taille_dtype */
  int32_t rank;  /* 0 (a scalar) to TAILLE_MAX_RANK */
  int64_t dims[TAILLE_MAX_RANK];
} taille_tensor;

/* What a model says of one of its inputs or outputs. Texts belong to the model and live until it is closed. */
typedef struct taille_tensor_info {
  const char* name;
  int32_t dtype; /* taille_dtype */
  int32_t rank;
  int64_t dims[TAILLE_MAX_RANK];          /* a size, or TAILLE_DYNAMIC where it varies from call to call */
  const char* dim_names[TAILLE_MAX_RANK]; /* as text: "3", "batch", "12*sequence"; NULL beyond the rank */
} taille_tensor_info;

typedef struct taille_model taille_model;

/* "0.1.0": of the library, which need not be that of this header. */
TAILLE_API const char* taille_version(void);

/* What the last function that failed in this thread had to say: UTF-8, cut at 1 KiB; "" before any failed. It lives
 * until the next failure in this thread. A function that succeeds leaves it as it is. */
TAILLE_API const char* taille_last_error(void);

/* "ok", "invalid argument", ...; "unknown status" for any other number. */
TAILLE_API const char* taille_status_text(int32_t status);

/* Reads an artefact, chooses the kernels for this CPU, packs the weights. *model is NULL where that fails.
 *   path     as the file system has it
 *   threads  of one run, the caller's included; 0: all that this process was granted (affinity, cgroup,
 * OMP_NUM_THREADS)
 */
TAILLE_API taille_status taille_model_open(const char* path, int32_t threads, taille_model** model);

/* NULL is no model and is accepted. */
TAILLE_API taille_status taille_model_close(taille_model* model);

TAILLE_API taille_status taille_model_counts(const taille_model* model, size_t* inputs, size_t* outputs);
TAILLE_API taille_status taille_model_input(const taille_model* model, size_t index, taille_tensor_info* info);
TAILLE_API taille_status taille_model_output(const taille_model* model, size_t index, taille_tensor_info* info);

/* How many threads one run uses. */
TAILLE_API taille_status taille_model_threads(const taille_model* model, int32_t* threads);

/* What a run on such inputs gives: dtype, rank, dims and bytes of each output; `data` of outputs is left as it is.
 *   inputs   in the model's order, as many as it has; their data and bytes are not looked at */
TAILLE_API taille_status taille_model_infer(const taille_model* model, const taille_tensor* inputs, size_t input_count,
                                            taille_tensor* outputs, size_t output_count);

/* Runs on one batch. Shapes may vary from call to call; one that was seen lately (the last 32) is not planned again.
 *   outputs  in the model's order, as many as it has: data and bytes say where to write, dtype, rank and dims are set.
 *            No output may share memory with an input or another output. Where the run fails, what is there is
 *            undefined.
 * The results are those of Python's predict, bit for bit, on every CPU and for any number of threads. */
TAILLE_API taille_status taille_model_run(taille_model* model, const taille_tensor* inputs, size_t input_count,
                                          taille_tensor* outputs, size_t output_count);

/* Answers of taille_model_run are kept from now on, by every byte of the inputs, and copied where the same inputs come
 * again; equal requests that run at the same time are computed once. What was used least recently goes first. Where
 * hits do not pay for the lookups, the cache switches itself off for a while. An answer never differs from a computed
 * one. bytes  most, of all that is kept; 0: no cache from now on ttl    seconds that an answer counts */
TAILLE_API taille_status taille_model_set_cache(taille_model* model, int64_t bytes, double ttl);

typedef struct taille_cache_stats { /* since the cache was set; all 0 where there is none */
  int64_t hits, misses;             /* answered from the cache; computed and kept */
  int64_t shared;                   /* waited for an equal request that ran */
  int64_t no_room, bypassed;        /* computed and not kept, for lack of room, or while it was off */
  int64_t evictions, expired;
  int64_t entries, bytes, waiting; /* now */
  int64_t switched_off;            /* how often */
  int32_t on;                      /* 1, or 0 while it is switched off */
} taille_cache_stats;

TAILLE_API taille_status taille_model_get_cache_stats(const taille_model* model, taille_cache_stats* stats);

/* Gives back all memory but the weights (what the cache holds too), and ends the model's threads. The model can be run
 * again. */
TAILLE_API taille_status taille_model_release(taille_model* model);

/* ---- Requests in flight ----
 * A runner takes requests one by one, from any thread, and runs those that are there at the same time together, on
 * threads of its own. What each gets is what taille_model_run gives for it alone, bit for bit. Requests whose inputs
 * agree in all dims but the first share batches; nothing is padded. A model that mixes samples, or fixes the first
 * dimension, runs one request at a time. The response cache is not asked.
 *
 *   taille_runner* runner;
 *   taille_runner_open(model, NULL, &runner);
 *   taille_runner_submit(runner, &in, 1, 0, 0, done, my_call, NULL);   // done(my_call, status, outputs, ...) follows
 *   taille_runner_close(runner, -1);                                   // when all that was submitted is done
 */
typedef struct taille_runner taille_runner;

typedef struct taille_runner_options {
  int32_t streams;    /* batches that run at once */
  int32_t threads;    /* of each stream, at most the model's; 0: the model's */
  int64_t max_batch;  /* samples in a batch; a request that brings more runs alone */
  double timeout;     /* seconds that a request waits for others at most, while a stream is free */
  double max_latency; /* seconds from submit to done that batches aim at, for requests without a deadline */
  int64_t queue_size; /* requests that wait at most */
} taille_runner_options;

/* Called once for each request that was accepted, by a thread of the runner, or by one that is in taille_runner_run,
 * _cancel or _close; it may come before submit has returned. It must be quick, as a stream waits for it, and must not
 * throw. It may submit and cancel; to run, drain or close any runner in it is refused (TAILLE_INVALID_ARGUMENT).
 *   outputs  in the model's order, with data, until it returns; NULL unless the status is TAILLE_OK
 *   error    why not, until it returns; "" where the status is TAILLE_OK. taille_last_error() is not touched */
typedef void (*taille_done)(void* user_data, taille_status status, const taille_tensor* outputs, size_t output_count,
                            const char* error);

/* What taille_runner_open takes where its options are NULL: what `taille tune` found best on this CPU and stored in the
 * artefact (streams and threads only where the model was opened with 0 threads), else 1 stream and batches of 64. Who
 * changes one of streams and threads should set both: they share the threads of this process. */
TAILLE_API taille_status taille_runner_defaults(const taille_model* model, taille_runner_options* options);

/* A runner on that model, whose weights it shares, and which may be closed before it. *runner is NULL where that
 * fails. */
TAILLE_API taille_status taille_runner_open(taille_model* model, const taille_runner_options* options,
                                            taille_runner** runner);

/* Queues a request and returns at once. Where it is refused `done` is not called: TAILLE_INVALID_ARGUMENT,
 * TAILLE_QUEUE_FULL, TAILLE_DEADLINE (with what waits before it, it would come too late) or TAILLE_CLOSED.
 *   inputs    as for taille_model_run. The structures are copied; the data must stay, unchanged, until `done` is called
 *   deadline  seconds from now in which the answer is needed; a request that turns out too late is given up
 *             (TAILLE_DEADLINE), one that has begun is finished. 0: none
 *   priority  among requests that wait, higher goes first; but up to an eighth of the time goes to those that have
 *             waited longer than max_latency, so that none waits for ever
 *   request   its number, for taille_runner_cancel; may be NULL */
TAILLE_API taille_status taille_runner_submit(taille_runner* runner, const taille_tensor* inputs, size_t input_count,
                                              double deadline, int32_t priority, taille_done done, void* user_data,
                                              uint64_t* request);

/* Submits a request and waits for it: as taille_model_run, but together with those of other threads. This thread runs
 * the batch itself where a stream is free. Gives what submit gives, and what `done` would be told. */
TAILLE_API taille_status taille_runner_run(taille_runner* runner, const taille_tensor* inputs, size_t input_count,
                                           double deadline, int32_t priority, taille_tensor* outputs,
                                           size_t output_count);

/* Takes a request that still waits out of the queue: its `done` is told TAILLE_CANCELLED before this returns.
 *   cancelled  1, or 0 where it has begun, is done, or never was; may be NULL */
TAILLE_API taille_status taille_runner_cancel(taille_runner* runner, uint64_t request, int32_t* cancelled);

/* Refuses new requests from now on (TAILLE_CLOSED), and waits until all others are done; TAILLE_DEADLINE where that
 * takes longer than `seconds` (below 0: however long it takes). */
TAILLE_API taille_status taille_runner_drain(taille_runner* runner, double seconds);

/* Drains for up to `seconds` (below 0: however long it takes), cancels what still waits, waits for what runs, ends the
 * threads and frees the runner: no `done` is called after it. NULL is no runner and is accepted. */
TAILLE_API taille_status taille_runner_close(taille_runner* runner, double seconds);

typedef struct taille_runner_stats {                         /* since the runner was opened */
  uint64_t submitted, completed, failed, cancelled, expired; /* drained, the first is the sum of the others */
  uint64_t refused_full, refused_deadline;                   /* not accepted, and not among those submitted */
  uint64_t batches, samples;
  uint64_t in_flight;                                         /* now: accepted, and not done */
  uint64_t queue_depth, queue_peak;                           /* of those, waiting now, and at most */
  double latency_p50, latency_p90, latency_p99, latency_mean; /* seconds from submit to done; 0 while none is done */
} taille_runner_stats;

TAILLE_API taille_status taille_runner_get_stats(const taille_runner* runner, taille_runner_stats* stats);

#ifdef __cplusplus
}
#endif

#endif
