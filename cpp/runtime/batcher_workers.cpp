// The workers of a batcher: one for each stream. They sleep, or for a moment spin, until a batch closes, run it, and
// tell.
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <system_error>
#include <utility>

#include "base/os_threads.h"
#include "base/processor.h"
#include "runtime/batcher_state.h"

namespace taille {

namespace {

// How long a worker looks for more work before it sleeps. Waking one takes a system call, and 5 to 50 us.
constexpr auto kWorkerSpin = std::chrono::microseconds(kSpinMicroseconds);

}  // namespace

thread_local const Batcher::State* Batcher::State::calling = nullptr;

void Batcher::State::start_workers(const std::shared_ptr<State>& self) {
  sigset_t all, before;  // signals go to the program's own threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int i = 0; i < options.streams; ++i) {
      workers.emplace_back([self] { self->work_on(); });
      name_thread(workers.back().native_handle(), "taille-batcher");
    }
  } catch (const std::system_error&) {  // the system gives no more threads: those there are do the work
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (workers.empty()) throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Batcher::State::work_on() {
  Lock lock(mutex);
  BatchTime spin_until{};
  while (true) {
    const auto now = BatchClock::now();
    const BatchQueue::Next next = free.empty() ? BatchQueue::Next{} : queue.next(now, draining);
    if (next.group && next.when <= now) {
      run_batch(lock, next.group, now);
      spin_until = BatchClock::now() + kWorkerSpin;
    } else if (stopped) {
      return;
    } else {
      rest(lock, next, spin_until);
    }
  }
}

// Until something may have changed: an arrival, a free stream, or the time at which a batch closes.
void Batcher::State::rest(Lock& lock, const BatchQueue::Next& next, BatchTime spin_until) {
  const auto now = BatchClock::now();
  if (next.group && next.when - now < kWorkerSpin) spin_until = next.when;  // too short to sleep
  if (can_spin && now < spin_until) {
    const uint64_t seen = arrivals.load(std::memory_order_relaxed);
    ++spinning;
    lock.unlock();
    while (arrivals.load(std::memory_order_relaxed) == seen && BatchClock::now() < spin_until) spin_pause();
    lock.lock();
    --spinning;
    return;
  }
  ++parked;
  if (next.group)
    work.wait_until(lock, next.when);
  else
    work.wait(lock);
  --parked;
}

void Batcher::State::run_batch(Lock& lock, BatchQueue::Group* group, BatchTime now) {
  BatchQueue::Batch batch = queue.take(group, now, draining);
  count_waiting();
  std::unique_ptr<BatchStream> stream;
  if (!batch.requests.empty()) {
    stream = std::move(free.back());
    free.pop_back();
    if (!free.empty() && queue.size() > 0) notify_parked();
  }
  lock.unlock();
  for (BatchQueue::Request& r : batch.expired) {
    r.reply = {Outcome::expired,
               {},
               std::make_exception_ptr(DeadlineError("the request waited until it could no longer "
                                                     "be done by its deadline"))};
  }
  if (stream) {
    BatcherCounters::add(counters.batches);
    BatcherCounters::add(counters.samples, static_cast<uint64_t>(batch.samples));
    BatcherCounters::add(counters.sizes[std::min(static_cast<size_t>(batch.samples), counters.sizes.size() - 1)]);
    const std::optional<double> seconds = stream->run(*model, batch);
    lock.lock();
    queue.ran(batch.group, batch.end, seconds, batch.samples);
    free.push_back(std::move(stream));
    if (queue.size() > 0) notify_parked();
    lock.unlock();
  }
  batch.requests.splice(batch.requests.end(), batch.expired);
  finish(batch.requests, lock);
}

// Calls `done` for each, without the lock; then it is held.
void Batcher::State::finish(Requests& requests, Lock& lock) {
  deliver(requests);
  const uint64_t count = requests.size();
  requests.clear();
  lock.lock();
  outstanding -= count;
  if (outstanding == 0) all_done.notify_all();
}

void Batcher::State::deliver(Requests& requests) {
  if (requests.empty()) return;
  const State* before = std::exchange(calling, this);
  const auto now = BatchClock::now();
  for (BatchQueue::Request& r : requests) {
    BatcherCounters::add(counters.of(r.reply.outcome));
    if (r.reply.outcome == Outcome::done) counters.latency.add(std::chrono::duration<double>(now - r.arrival).count());
    if (r.done) r.done(r.context, std::move(r.reply));
  }
  if (options.flush) options.flush(options.flush_context);
  calling = before;
}

void Batcher::State::cancel_waiting(Lock& lock) {
  Requests waiting = queue.remove_all();
  count_waiting();
  lock.unlock();
  for (BatchQueue::Request& r : waiting) r.reply.outcome = Outcome::cancelled;
  finish(waiting, lock);
}

void Batcher::State::check_not_calling(const char* what) const {
  if (calling == this) throw std::logic_error(concat(what, " was called from a callback that it would wait for"));
}

bool Batcher::State::wait_until_done(Lock& lock, std::optional<double> seconds) {
  const auto none = [&] { return outstanding == 0; };
  if (seconds && *seconds < 1e9) return all_done.wait_for(lock, std::chrono::duration<double>(*seconds), none);
  all_done.wait(lock, none);
  return true;
}

void Batcher::State::end_workers(bool join) {
  {
    Lock lock(mutex);
    stopped = true;
    work.notify_all();
  }
  arrivals.fetch_add(1, std::memory_order_relaxed);  // for those that spin
  std::lock_guard lock(workers_mutex);
  for (std::thread& w : workers) join ? w.join() : w.detach();
  workers.clear();
}

}  // namespace taille
