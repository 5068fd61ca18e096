// The batcher: requests come one by one from any thread, wait in a bounded queue, and run in batches on a few streams.
//
//   submit --> BatchQueue (by shape; batch_queue.h) --> a stream: gather, Model::run, scatter --> done(reply)
//
// A stream is a thread pool, buffers and one worker thread; all streams share the model's packed weights and plans.
// When a batch closes, and which requests are in it, is said in batch_queue.h. Inputs are copied once, into the batch,
// and outputs once, out of it; a request that runs alone is not copied at all.
//
// Only models whose samples do not touch one another are batched (batch_axis.h): of each input and output dimension 0,
// and no other, counts samples. Every other model runs one request at a time. Samples of a batch have equal trailing
// dimensions, so nothing is padded, and every request gets, bit for bit, what Model::run gives for it alone.
//
// Threads. Everything may be called from any thread. `done` and `flush` are called without a lock held, from a worker,
// from a thread in cancel(), close() or help(), or from the destructor; they must not throw, and may call everything
// but drain() and close(). Exactly one `done` is called for each accepted request, and none for a refused one; it may
// be called before submit() has returned.
//
// fork(). A child has no worker: there, every call but the destructor throws ClosedError, and `done` is never called.
//
//   Batcher batcher(model, {.streams = 2, .threads = 4});
//   uint64_t id = batcher.submit({.inputs = inputs, .done = &finished, .context = my_call});
//   void finished(void* context, Reply&& reply) { ... reply.outcome, reply.outputs.array(0).data ... }
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "runtime/model.h"

namespace taille {

struct BatcherOptions {
  int streams = 1;            // batches that run at once
  int threads = 0;            // of each stream, at most the model's; 0: the model's
  int64_t max_batch = 64;     // samples in a batch; a request that brings more runs alone
  double timeout = 0.1;       // seconds that a request waits for others at most, while a stream is free
  double max_latency = 0.2;   // seconds from submit to done that batches aim at, for requests without a deadline
  int64_t queue_size = 1024;  // requests that wait at most
  // Called after the last of some `done` calls that one thread makes in a row (those of a batch), or null.
  void (*flush)(void* context) = nullptr;
  void* flush_context = nullptr;
};

// The outputs of one request, in graph order. They own their memory and belong to whom the reply was given.
class Outputs {
 public:
  struct Array {
    void* data;  // row-major, 64-byte aligned
    DType dtype;
    Dims dims;
    size_t bytes;
  };
  Outputs() = default;
  // For a run of that plan; with `samples` as dimension 0, where they are given.
  Outputs(const Graph& graph, const Plan& plan, std::optional<int64_t> samples = {});

  size_t count() const { return arrays_.size(); }
  const Array& array(size_t i) const { return arrays_[i]; }

 private:
  Buffer memory_;
  std::vector<Array> arrays_;
};

enum class Outcome : uint8_t {
  done,       // outputs
  failed,     // error: what Model::run threw for this request
  cancelled,  // by cancel(), close() or the destructor, before it ran
  expired,    // its deadline could no longer be met when its turn came
};

struct Reply {
  Outcome outcome = Outcome::done;
  Outputs outputs;           // of Outcome::done
  std::exception_ptr error;  // of Outcome::failed and Outcome::expired (DeadlineError)
};

struct BatchRequest {
  // In graph order. The list is copied; what it points to must stay, unchanged, until `done` is called.
  std::span<const InputArray> inputs;
  // Seconds from now, above 0: the request is refused or given up where that cannot be met. None: never given up.
  std::optional<double> deadline = {};
  int priority = 0;  // among those of one moment, higher goes first; see batch_queue.h for what waits long
  void (*done)(void* context, Reply&& reply) = nullptr;
  void* context = nullptr;
};

// Counts since the batcher was made. Each is exact; they are read one after another, so while requests come and go they
// are not of one moment. Once drained, submitted = completed + failed + cancelled + expired.
struct BatcherStats {
  uint64_t submitted, completed, failed, cancelled, expired;
  uint64_t refused_full, refused_deadline;
  uint64_t batches, samples;
  std::vector<uint64_t> batch_sizes;  // batches by how many samples, 0 .. max_batch; larger ones count as the last
  uint64_t queue_depth, queue_peak;   // requests that wait now, and waited at most
  uint64_t in_flight;                 // accepted, and not done
  double latency_p50, latency_p90, latency_p99, latency_mean;  // seconds from submit to done; 0 while none is done
  std::vector<std::pair<double, uint64_t>> latencies;          // the histogram: upper bounds in seconds, counts above 0
};

class Batcher {
 public:
  // Throws std::invalid_argument naming an option that is out of range.
  Batcher(std::shared_ptr<Model> model, const BatcherOptions& options);
  // Cancels what waits, and waits for what runs. In a child of fork() it forgets all.
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  const Model& model() const;
  const BatcherOptions& options() const;  // with threads as they are
  bool batches() const;                   // false: requests run one by one; see why()
  const std::string& why() const;         // the reason, or empty

  // Queues a request; its number, for cancel() and help(). Throws, and then `done` is not called:
  //   TypeError, std::invalid_argument  inputs that do not fit the model     QueueFullError  queue_size are waiting
  //   DeadlineError   what the queue costs says that it would come too late  ClosedError     drain() or close() was
  //   called
  uint64_t submit(const BatchRequest& request);

  // Takes a request that still waits out of the queue and calls its `done` with Outcome::cancelled; false where it has
  // begun, is done, or never was.
  bool cancel(uint64_t id);
  bool waits(uint64_t id) const;

  // Lets the calling thread, which waits for that request, run its batch, where it still waits, may run now and a
  // stream is free: that saves waking a worker. False where nothing was run.
  bool help(uint64_t id);

  // Refuses new requests from now on, and waits until all others are done; false where that took longer than `seconds`
  // (none: however long it takes). Batches do not wait for more requests meanwhile.
  bool drain(std::optional<double> seconds = {});
  // drain(seconds), then cancels what still waits (at once where seconds = 0), waits for what runs and ends the
  // workers. May be called again. drain() and close() throw std::logic_error when called from `done` or `flush`.
  void close(std::optional<double> seconds = {});
  bool closed() const;  // whether new requests are refused

  BatcherStats stats() const;  // takes no lock that submit() or a stream holds for long

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace taille
