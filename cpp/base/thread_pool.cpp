// Every worker owns one cache line with one word, and that word is the whole protocol:
//
//   idle    -> offered   the caller offers this worker its share of the call
//   parked  -> offered   the same, and the worker must be woken
//   offered -> running   the worker takes its share
//   offered -> idle      the caller has finished its own share before the worker woke, and takes this one too: a call
//                        is never much slower than doing all in the caller, however late the workers are scheduled
//   running -> idle      the worker is done
//   running -> awaited   the caller has spun long enough and sleeps until the worker is done
//   idle    -> parked    the worker has spun long enough and sleeps
//
// Each transition is one atomic exchange, and the sleeper's word says that it sleeps, so no wake-up is lost and
// nobody is woken in vain.
//
// A worker that wakes on the caller's own CPU does not run before the caller rests, and Linux leaves both there for
// milliseconds. So a worker that went to sleep there, or did not come in time, is kept off that CPU from then on (until
// the caller is seen on another).
#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/fork.h"
#include "base/os_threads.h"

namespace taille {
namespace {

using Clock = std::chrono::steady_clock;
using Body = FunctionRef<void(int64_t, int)>;

enum Word : uint32_t { kIdle, kParked, kOffered, kRunning, kAwaited, kExit };

// Spins while the word has that value, for kSpinMicroseconds at most; returns the last value seen.
uint32_t spin_while(const std::atomic<uint32_t>& word, uint32_t value) {
  const auto until = Clock::now() + std::chrono::microseconds(kSpinMicroseconds);
  do {
    for (int i = 0; i < 16; ++i) {
      const uint32_t now = word.load(std::memory_order_acquire);
      if (now != value) return now;
      spin_pause();
    }
  } while (Clock::now() < until);
  return word.load(std::memory_order_acquire);
}

thread_local bool inside_body = false;

}  // namespace

FlushDenormals::FlushDenormals() : saved_(float_mode()) { set_float_mode(saved_ | kFlushDenormals); }
FlushDenormals::~FlushDenormals() { set_float_mode(saved_); }

struct ThreadPool::State {
  struct alignas(64) Worker {
    std::atomic<uint32_t> word{kIdle};
    std::atomic<int> cpu{-1};  // where it went to sleep
    int kept_off = -1;         // the CPU it may not use; the caller's to read and write
    int thread = 0;
    const State* pool = nullptr;
    pthread_t handle{};
  };

  explicit State(int count) : threads(count) {}
  ~State();

  // Runs all shares over the workers; false where another caller has them. Without `steal` every share waits for its
  // own worker, which is the cost that fork_join_seconds() is to tell.
  bool fork_join(int64_t tasks, const Body& body, bool steal);
  void run_share(int share, int thread) const;
  static void keep_off(Worker& worker, int cpu);

  // The median seconds of some empty forks; nothing where other callers have the workers.
  std::optional<double> time_forks();

  bool acquire();
  void start_workers();
  void end_workers();  // the caller holds them, or there is no other caller
  static void* work(void* worker);

  const int threads;
  std::atomic<uint32_t> owner{0};  // the fork generation of the caller that holds the workers, 0 for none
  uint32_t started_in = 0;         // the fork generation that the workers belong to
  int started = 0;
  std::unique_ptr<Worker[]> workers;
  std::atomic<double> fork_join_cost{-1.0};

  // The call in progress, written before the shares are offered.
  const Body* body = nullptr;
  int64_t tasks = 0;
  int shares = 0;
};

ThreadPool::State::~State() { end_workers(); }

void ThreadPool::State::end_workers() {
  if (started_in == fork_generation()) {
    for (int i = 0; i < started; ++i)
      if (workers[i].word.exchange(kExit) == kParked) wake(workers[i].word);
    for (int i = 0; i < started; ++i) pthread_join(workers[i].handle, nullptr);
  }
  started = 0;
  started_in = 0;
}

void ThreadPool::State::run_share(int share, int thread) const {
  const int64_t each = tasks / shares, extra = tasks % shares;
  const int64_t first = share * each + std::min<int64_t>(share, extra);
  const int64_t last = first + each + (share < extra ? 1 : 0);
  for (int64_t task = first; task < last; ++task) (*body)(task, thread);
}

// Leaves the worker all CPUs that the caller may use but this one, if any.
void ThreadPool::State::keep_off(Worker& worker, int cpu) {
  if (cpu < 0 || worker.kept_off == cpu) return;
  if (keep_off_cpu(worker.handle, cpu)) worker.kept_off = cpu;
}

void* ThreadPool::State::work(void* argument) {
  auto& self = *static_cast<Worker*>(argument);
  const FlushDenormals flush;
  inside_body = true;  // whatever a worker runs is inside a body
  while (true) {
    switch (spin_while(self.word, kIdle)) {
      case kExit:
        return nullptr;
      case kOffered: {
        uint32_t expected = kOffered;
        if (!self.word.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel)) break;
        self.pool->run_share(self.thread, self.thread);
        if (self.word.exchange(kIdle, std::memory_order_acq_rel) == kAwaited) wake(self.word);
        break;
      }
      default: {
        uint32_t expected = kIdle;
        self.cpu.store(current_cpu(), std::memory_order_relaxed);
        if (self.word.compare_exchange_strong(expected, kParked, std::memory_order_acq_rel))
          sleep_while(self.word, kParked);
      }
    }
  }
}

bool ThreadPool::State::acquire() {
  const uint32_t mine = fork_generation();
  uint32_t holder = owner.load(std::memory_order_relaxed);
  // A holder of an older generation is a thread of the parent, which does not exist here.
  return holder != mine && owner.compare_exchange_strong(holder, mine, std::memory_order_acquire);
}

void ThreadPool::State::start_workers() {
  started_in = fork_generation();
  started = 0;
  workers = std::make_unique<Worker[]>(static_cast<size_t>(threads - 1));
  sigset_t all, before;  // signals go to the program's own threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < threads - 1; ++i) {
    Worker& worker = workers[i];
    worker.thread = i + 1;
    worker.pool = this;
    // Where the system gives no more threads, the pool works with those it has.
    if (pthread_create(&worker.handle, nullptr, work, &worker) != 0) break;
    name_thread(worker.handle, "taille");
    ++started;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool ThreadPool::State::fork_join(int64_t count, const Body& work_body, bool steal) {
  if (!acquire()) return false;
  if (started_in != fork_generation()) start_workers();
  body = &work_body;
  tasks = count;
  shares = static_cast<int>(std::min<int64_t>(count, started + 1));
  for (int i = 0; i < shares - 1; ++i) {
    Worker& worker = workers[i];
    if (worker.word.exchange(kOffered, std::memory_order_acq_rel) != kParked) continue;
    const int here = current_cpu();
    if (worker.cpu.load(std::memory_order_relaxed) == here) keep_off(worker, here);
    wake(worker.word);
  }
  run_share(0, 0);
  for (int i = 0; i < shares - 1; ++i) {
    auto& word = workers[i].word;
    uint32_t expected = kOffered;
    if (!steal || !word.compare_exchange_strong(expected, kIdle, std::memory_order_acq_rel)) continue;
    keep_off(workers[i], current_cpu());
    run_share(i + 1, 0);
  }
  for (int i = 0; i < shares - 1; ++i) {
    auto& word = workers[i].word;
    if (!steal) spin_while(word, kOffered);
    while (word.load(std::memory_order_acquire) == kOffered) sched_yield();
    if (spin_while(word, kRunning) != kRunning) continue;
    uint32_t expected = kRunning;
    if (word.compare_exchange_strong(expected, kAwaited, std::memory_order_acq_rel)) sleep_while(word, kAwaited);
  }
  owner.store(0, std::memory_order_release);
  return true;
}

std::optional<double> ThreadPool::State::time_forks() {
  constexpr int kForks = 48;
  const auto no_work = [](int64_t, int) {};
  const Body nothing = no_work;
  std::vector<double> seconds;
  for (int i = 0; i < kForks; ++i) {
    const auto start = Clock::now();
    if (!fork_join(threads, nothing, false)) continue;
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  if (seconds.empty()) return std::nullopt;
  const auto median = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), median, seconds.end());
  return *median;
}

ThreadPool::ThreadPool(int threads) {
  check(threads >= 1, "ThreadPool: threads must be at least 1, got ", threads);
  fork_generation();  // from here on, forks are counted
  state_ = std::make_unique<State>(threads);
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(int64_t tasks, Body body) {
  if (tasks <= 0) return;
  const FlushDenormals flush;
  const bool nested = inside_body;
  inside_body = true;
  if (nested || tasks == 1 || state_->threads == 1 || !state_->fork_join(tasks, body, true))
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
  inside_body = nested;
}

void ThreadPool::release() {
  if (inside_body || state_->threads == 1) return;
  while (!state_->acquire()) sched_yield();
  state_->end_workers();
  state_->owner.store(0, std::memory_order_release);
}

double ThreadPool::fork_join_seconds() {
  if (state_->threads == 1) return 0.0;
  const double known = state_->fork_join_cost.load(std::memory_order_relaxed);
  if (known >= 0) return known;
  // The system often starts a thread on its parent's CPU and moves it some milliseconds later; until then a fork waits
  // for a time slice. So: the best batch, and batches until one is good or the time is up.
  constexpr double kGood = 5e-6;
  const auto until = Clock::now() + std::chrono::milliseconds(30);
  std::optional<double> best;
  do {
    const auto batch = state_->time_forks();
    if (batch && (!best || *batch < *best)) best = batch;
  } while ((!best || *best > kGood) && Clock::now() < until);
  if (!best) return kGood;  // other callers had the workers all the while: to be measured another time
  // What is measured while a worker waits for its CPU says nothing of the calls to come, and a worker that comes late
  // is not waited for: no fork is taken to cost more than this.
  const double cost = std::min(*best, kGood);
  state_->fork_join_cost.store(cost, std::memory_order_relaxed);
  return cost;
}

}  // namespace taille
