#include "runtime/batcher.h"

#include <algorithm>
#include <utility>

#include "runtime/batcher_state.h"

namespace taille {

BatcherOptions checked_options(const Model& model, BatcherOptions o) {
  check(o.streams >= 1 && o.streams <= 256, "streams must be in 1 .. 256, got ", o.streams);
  check(o.threads >= 0 && o.threads <= model.threads(), "threads must be in 0 .. ", model.threads(),
        ", as the model was made for so many, got ", o.threads);
  if (o.threads == 0) o.threads = model.threads();
  check(o.max_batch >= 1 && o.max_batch <= 65536, "max_batch must be in 1 .. 65536 samples, got ", o.max_batch);
  check(o.timeout >= 0 && o.timeout <= 1e6, "timeout must be in 0 .. 1e6 seconds, got ", o.timeout);
  check(o.max_latency > 0 && o.max_latency <= 1e6, "max_latency must be above 0 and at most 1e6 seconds, got ",
        o.max_latency);
  check(o.queue_size >= 1 && o.queue_size <= 1 << 24, "queue_size must be in 1 .. 2^24 requests, got ", o.queue_size);
  return o;
}

int64_t Batcher::State::samples_of(std::span<const InputArray> inputs) const {
  return why.empty() ? inputs.front().dims.front() : 1;
}

// What requests that may share a batch have in common.
BatchQueue::Key Batcher::State::key_of(std::span<const InputArray> inputs) const {
  BatchQueue::Key key;
  const std::ptrdiff_t first = why.empty() ? 1 : 0;
  for (const InputArray& in : inputs) key.insert(key.end(), in.dims.begin() + first, in.dims.end());
  return key;
}

// Enough for key_of() to tell shapes apart; where this does not hold, the model says what is wrong.
void Batcher::State::check_form(std::span<const InputArray> inputs) const {
  const Graph& g = model->graph();
  bool fits = inputs.size() == g.inputs.size();
  for (size_t i = 0; fits && i < inputs.size(); ++i) {
    const Value& v = g.value(g.inputs[i]);
    fits = inputs[i].dtype == v.dtype && inputs[i].dims.size() == v.shape.size() &&
           (!why.empty() || inputs[i].dims.front() == inputs.front().dims.front());
  }
  if (!fits) model->check_inputs(inputs);
  check(fits, "the inputs do not fit the model");
  check(inputs.empty() || !why.empty() || inputs.front().dims.front() >= 1, "input '", g.value(g.inputs[0]).name,
        "' has no sample: its dimension 0 is ", inputs.empty() ? 0 : inputs.front().dims.front());
}

void Batcher::State::refuse(const BatchQueue::Request& r, const BatchQueue::Key& key, BatchTime now) {
  if (draining) throw ClosedError("the batcher takes no more requests: it was closed or drained");
  if (queue.size() >= static_cast<size_t>(options.queue_size)) {
    BatcherCounters::add(counters.refused_full);
    throw QueueFullError(
        concat("the queue is full: ", queue.size(), " requests are waiting, and queue_size is ", options.queue_size));
  }
  if (!r.promised) return;
  const double left = std::chrono::duration<double>(r.deadline - now).count();
  const double needed = queue.seconds_to_done(key, r.samples, r.priority, now);
  if (needed <= left) return;
  BatcherCounters::add(counters.refused_deadline);
  queue.refused(key);
  throw DeadlineError(concat("the request would take ", needed * 1e3,
                             " ms with what waits before it, and is to be done in ", left * 1e3, " ms"));
}

Batcher::Batcher(std::shared_ptr<Model> model, const BatcherOptions& options)
    : state_(std::make_shared<State>(std::move(model), options)) {
  state_->start_workers(state_);
}

Batcher::~Batcher() {
  if (state_->is_foreign()) {
    // Its locks may be held and its threads are not here: what it owns is left as it is.
    static_cast<void>(new std::shared_ptr<State>(state_));
    return;
  }
  if (State::calling != state_.get()) {
    close(0);
    return;
  }
  // The last of those who hold it is a callback: this thread cannot wait for itself.
  {
    State::Lock lock(state_->mutex);
    state_->draining = true;
    state_->cancel_waiting(lock);
  }
  state_->end_workers(false);
}

const Model& Batcher::model() const { return *state_->model; }
const BatcherOptions& Batcher::options() const { return state_->options; }
bool Batcher::batches() const { return state_->why.empty(); }
const std::string& Batcher::why() const { return state_->why; }

uint64_t Batcher::submit(const BatchRequest& request) {
  State& s = *state_;
  s.check_process();
  check(!request.deadline || (*request.deadline > 0 && *request.deadline <= 1e6),
        "deadline must be above 0 and at most 1e6 seconds from now, got ", request.deadline.value_or(0));
  s.check_form(request.inputs);
  const BatchQueue::Key key = s.key_of(request.inputs);
  BatchQueue::Requests one(1);
  BatchQueue::Request& r = one.front();
  r.samples = s.samples_of(request.inputs);
  r.priority = request.priority;
  r.promised = request.deadline.has_value();
  r.inputs.assign(request.inputs.begin(), request.inputs.end());
  r.done = request.done;
  r.context = request.context;
  State::Lock lock(s.mutex);
  if (!s.queue.find(key)) {  // dimensions that were never seen
    lock.unlock();
    s.model->check_inputs(request.inputs);
    lock.lock();
  }
  r.arrival = BatchClock::now();
  r.deadline = r.arrival + batch_seconds(request.deadline.value_or(s.options.max_latency));
  s.refuse(r, key, r.arrival);
  const uint64_t id = r.id = ++s.last_id;
  s.queue.push(one, key, r.arrival);
  s.count_waiting();
  ++s.outstanding;
  BatcherCounters::add(s.counters.submitted);
  s.arrivals.fetch_add(1, std::memory_order_relaxed);
  const bool wake = s.parked > 0 && s.spinning == 0;
  lock.unlock();
  if (wake) s.work.notify_one();
  return id;
}

bool Batcher::cancel(uint64_t id) {
  State& s = *state_;
  s.check_process();
  State::Lock lock(s.mutex);
  BatchQueue::Requests one = s.queue.remove(id);
  if (one.empty()) return false;
  s.count_waiting();
  lock.unlock();
  one.front().reply.outcome = Outcome::cancelled;
  s.finish(one, lock);
  return true;
}

bool Batcher::waits(uint64_t id) const {
  state_->check_process();
  State::Lock lock(state_->mutex);
  return state_->queue.waits(id);
}

bool Batcher::help(uint64_t id) {
  State& s = *state_;
  s.check_process();
  State::Lock lock(s.mutex);
  if (s.free.empty() || !s.queue.waits(id)) return false;
  const auto now = BatchClock::now();
  const BatchQueue::Next own = s.queue.next_of(id, now), next = s.queue.next(now, s.draining);
  if (next.group != own.group || next.when > now) return false;
  s.run_batch(lock, next.group, now);
  return true;
}

bool Batcher::drain(std::optional<double> seconds) {
  State& s = *state_;
  s.check_process();
  s.check_not_calling("drain()");
  check(!seconds || *seconds >= 0, "seconds must be at least 0, got ", seconds.value_or(0));
  State::Lock lock(s.mutex);
  s.draining = true;
  s.work.notify_all();
  return s.wait_until_done(lock, seconds);
}

void Batcher::close(std::optional<double> seconds) {
  State& s = *state_;
  s.check_process();
  s.check_not_calling("close()");
  if (!drain(seconds)) {
    State::Lock lock(s.mutex);
    s.cancel_waiting(lock);
    s.wait_until_done(lock, {});
  }
  s.end_workers(true);
}

bool Batcher::closed() const {
  if (state_->is_foreign()) return true;
  State::Lock lock(state_->mutex);
  return state_->draining;
}

BatcherStats Batcher::stats() const {
  state_->check_process();
  const BatcherCounters& c = state_->counters;
  BatcherStats out{};
  // What ends is read before what began, so that never more ended than began.
  out.completed = BatcherCounters::get(c.completed);
  out.failed = BatcherCounters::get(c.failed);
  out.cancelled = BatcherCounters::get(c.cancelled);
  out.expired = BatcherCounters::get(c.expired);
  out.queue_depth = BatcherCounters::get(c.depth);
  out.queue_peak = BatcherCounters::get(c.peak);
  out.refused_full = BatcherCounters::get(c.refused_full);
  out.refused_deadline = BatcherCounters::get(c.refused_deadline);
  out.samples = BatcherCounters::get(c.samples);
  out.batches = BatcherCounters::get(c.batches);
  for (const auto& n : c.sizes) out.batch_sizes.push_back(BatcherCounters::get(n));
  out.submitted = BatcherCounters::get(c.submitted);
  out.in_flight = out.submitted - out.completed - out.failed - out.cancelled - out.expired;
  const DurationHistogram::Snapshot latency = c.latency.snapshot();
  out.latency_p50 = latency.quantile(0.5);
  out.latency_p90 = latency.quantile(0.9);
  out.latency_p99 = latency.quantile(0.99);
  out.latency_mean = latency.mean();
  out.latencies = latency.buckets;
  return out;
}

}  // namespace taille
