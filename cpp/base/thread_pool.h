// A fork-join pool. The caller takes part as thread 0; workers spin at most kSpinMicroseconds after their last
// work and then park, so an idle process uses no CPU. Work that is too small for a fork runs in the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/function_ref.h"
#include "base/processor.h"

namespace taille {

inline constexpr int kSpinMicroseconds = 60;

// How many threads this process was granted, and why: the least of affinity, cgroup v1/v2 CPU quota (rounded up)
// and OMP_NUM_THREADS.
struct ThreadGrant {
  int threads;
  std::string reason;  // one sentence for `taille doctor`
};
// The roots are arguments so that tests can bring their own trees.
ThreadGrant granted_threads(const std::string& proc_root = "/proc", const std::string& cgroup_root = "/sys/fs/cgroup");

// Sets flush-to-zero and denormals-are-zero while alive and restores the caller's mode after.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  FloatMode saved_;
};

class ThreadPool {
 public:
  // threads >= 1, the caller included. Workers start at the first fork, and again in a child after fork().
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(task, thread) for task = 0 .. tasks-1, split statically into contiguous runs over the threads, and
  // returns when all are done. `body` runs with denormals flushed and must neither throw nor fork the process. Where
  // another caller holds the workers, and in a run() inside a body, all tasks run in this thread (thread = 0). No two
  // bodies of one call run at once with the same `thread`; results must not depend on the split.
  void run(int64_t tasks, FunctionRef<void(int64_t task, int thread)> body);

  // Ends the workers, when the call that has them is done; the next fork starts new ones. Does nothing inside a body.
  void release();

  // The measured cost of one fork-join in seconds while the workers spin (measured at the first call).
  double fork_join_seconds();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace taille
