// Inside of the batcher: what its parts share. batcher.cpp takes requests, batcher_workers.cpp runs them.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fork.h"
#include "base/histogram.h"
#include "runtime/batch_axis.h"
#include "runtime/batch_queue.h"
#include "runtime/batch_stream.h"
#include "runtime/batcher.h"

namespace taille {

// Added to without a lock, in any order.
struct BatcherCounters {
  std::atomic<uint64_t> submitted{0}, completed{0}, failed{0}, cancelled{0}, expired{0}, refused_full{0},
      refused_deadline{0}, batches{0}, samples{0}, depth{0}, peak{0};
  std::vector<std::atomic<uint64_t>> sizes;
  DurationHistogram latency;

  explicit BatcherCounters(int64_t max_batch) : sizes(static_cast<size_t>(max_batch) + 1) {}
  static void add(std::atomic<uint64_t>& count, uint64_t n = 1) { count.fetch_add(n, std::memory_order_relaxed); }
  static uint64_t get(const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); }

  std::atomic<uint64_t>& of(Outcome outcome) {
    switch (outcome) {
      case Outcome::done:
        return completed;
      case Outcome::failed:
        return failed;
      case Outcome::cancelled:
        return cancelled;
      case Outcome::expired:
        break;
    }
    return expired;
  }
};

// The options, with threads as they are. Throws std::invalid_argument naming one that is out of range.
BatcherOptions checked_options(const Model& model, BatcherOptions options);

struct Batcher::State {
  using Lock = std::unique_lock<std::mutex>;
  using Requests = BatchQueue::Requests;

  State(std::shared_ptr<Model> m, const BatcherOptions& o)
      : model(std::move(m)),
        options(checked_options(*model, o)),
        why(why_not_batched(model->graph())),
        can_spin(granted_threads().threads > 1),
        counters(options.max_batch),
        queue({why.empty() ? options.max_batch : 1, options.timeout, options.streams, options.max_latency}) {
    for (int i = 0; i < options.streams; ++i) free.push_back(std::make_unique<BatchStream>(options.threads));
  }

  const std::shared_ptr<Model> model;
  const BatcherOptions options;
  const std::string why;  // requests run one by one; or empty
  const bool can_spin;    // else a spinning worker would keep the only CPU from whoever it waits for
  const uint32_t generation = fork_generation();
  BatcherCounters counters;
  std::atomic<uint64_t> arrivals{0};  // what a spinning worker looks at

  mutable std::mutex mutex;  // guards all below but `workers`
  std::condition_variable work, all_done;
  BatchQueue queue;
  std::vector<std::unique_ptr<BatchStream>> free;
  uint64_t last_id = 0;
  uint64_t outstanding = 0;  // accepted, and `done` not yet called
  int parked = 0, spinning = 0;
  bool draining = false, stopped = false;

  std::mutex workers_mutex;
  std::vector<std::thread> workers;

  // The batcher whose `done` or `flush` this thread is in.
  static thread_local const State* calling;

  bool is_foreign() const { return generation != fork_generation(); }
  void check_process() const {
    if (is_foreign())
      throw ClosedError("the batcher belongs to the process that this one was forked off; make a new one here");
  }

  void start_workers(const std::shared_ptr<State>& self);
  void work_on();
  void rest(Lock& lock, const BatchQueue::Next& next, BatchTime spin_until);
  void run_batch(Lock& lock, BatchQueue::Group* group, BatchTime now);
  void deliver(Requests& requests);
  void finish(Requests& requests, Lock& lock);
  void cancel_waiting(Lock& lock);
  void check_not_calling(const char* what) const;
  bool wait_until_done(Lock& lock, std::optional<double> seconds);
  void end_workers(bool join);

  BatchQueue::Key key_of(std::span<const InputArray> inputs) const;
  int64_t samples_of(std::span<const InputArray> inputs) const;
  void check_form(std::span<const InputArray> inputs) const;
  void refuse(const BatchQueue::Request& r, const BatchQueue::Key& key, BatchTime now);
  void notify_parked() {
    if (parked > 0 && spinning == 0) work.notify_one();
  }
  void count_waiting() {
    const uint64_t now = queue.size();
    counters.depth.store(now, std::memory_order_relaxed);
    if (now > BatcherCounters::get(counters.peak)) counters.peak.store(now, std::memory_order_relaxed);
  }
};

}  // namespace taille
