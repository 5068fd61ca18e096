// The functions of taille.h for requests in flight: a Batcher over an open model.
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/batcher.h"
#include "runtime/c_api_model.h"

using namespace taille;
using namespace taille::c_api;

namespace {

struct OpenRunner {
  std::shared_ptr<OpenModel> model;
  std::unique_ptr<Batcher> batcher;
};

Handles<OpenRunner>& open_runners() {
  static auto& handles = *new Handles<OpenRunner>;
  return handles;
}

std::shared_ptr<OpenRunner> runner_of(const taille_runner* runner) { return open_runners().get(runner, "runner"); }

thread_local bool in_done = false;  // this thread is in a caller's taille_done

// A thread of a runner that waits for a runner may wait for itself.
void check_may_wait() { check(!in_done, "was called from a callback of a runner, which must not wait"); }

// Throws what kept the request from being done.
void check_done(const Reply& reply) {
  if (reply.outcome == Outcome::cancelled) throw CancelledError("the request was cancelled");
  if (reply.error) std::rethrow_exception(reply.error);
}

std::vector<taille_tensor> tensors_of(const Outputs& outputs) {
  std::vector<taille_tensor> out;
  out.reserve(outputs.count());
  for (size_t i = 0; i < outputs.count(); ++i) {
    const Outputs::Array& array = outputs.array(i);
    taille_tensor t{array.data, array.bytes, code_of(array.dtype), static_cast<int32_t>(array.dims.size()), {}};
    std::copy(array.dims.begin(), array.dims.end(), t.dims);
    out.push_back(t);
  }
  return out;
}

// A request of taille_runner_submit, until its callback has returned.
struct SubmittedCall {
  taille_done done;
  void* user_data;

  void tell(taille_status status, const std::vector<taille_tensor>& outputs, const char* error) const {
    const bool before = std::exchange(in_done, true);
    done(user_data, status, outputs.empty() ? nullptr : outputs.data(), outputs.size(), error);
    in_done = before;
  }
};

void done_submitted(void* context, Reply&& reply) {
  const std::unique_ptr<SubmittedCall> call(static_cast<SubmittedCall*>(context));
  std::vector<taille_tensor> outputs;
  try {
    check_done(reply);
    outputs = tensors_of(reply.outputs);
  } catch (...) {
    const Failure failure = current_failure();  // not of guarded(): the last error of a thread in cancel stays
    call->tell(failure.status, {}, failure.what);
    return;
  }
  call->tell(TAILLE_OK, outputs, "");
}

// A request of taille_runner_run, whose thread waits here.
class AwaitedCall {
 public:
  static void done(void* context, Reply&& reply) {
    auto& self = *static_cast<AwaitedCall*>(context);
    const std::lock_guard lock(self.mutex_);
    self.reply_ = std::move(reply);
    self.is_done_ = true;
    self.changed_.notify_one();  // with the lock: without it, the one that waits may have gone
  }
  bool is_done() {
    const std::lock_guard lock(mutex_);
    return is_done_;
  }
  Reply wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_done_; });
    return std::move(reply_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_done_ = false;
  Reply reply_;
};

BatchRequest request_of(const std::vector<InputArray>& inputs, double deadline, int32_t priority) {
  check(deadline >= 0, "deadline is ", deadline, "; wanted seconds above 0, or 0 for none");
  BatchRequest out;
  out.inputs = inputs;
  if (deadline > 0) out.deadline = deadline;
  out.priority = priority;
  return out;
}

std::optional<double> patience_of(double seconds) {
  check(!std::isnan(seconds), "seconds is NaN");
  return seconds < 0 || std::isinf(seconds) ? std::nullopt : std::optional(seconds);
}

taille_runner_options default_options(const OpenModel& model) {
  const BatcherOptions& o = model.runner_defaults();
  return {o.streams, o.threads, o.max_batch, o.timeout, o.max_latency, o.queue_size};
}

std::unique_ptr<Batcher> batcher_of(const OpenModel& model, const taille_runner_options& given) {
  BatcherOptions o;
  o.streams = given.streams;
  o.threads = given.threads;
  o.max_batch = std::min(given.max_batch, model.most_samples());
  o.timeout = given.timeout;
  o.max_latency = given.max_latency;
  o.queue_size = given.queue_size;
  return std::make_unique<Batcher>(model.model, o);
}

}  // namespace

taille_status taille_runner_defaults(const taille_model* model, taille_runner_options* options) {
  return guarded("taille_runner_defaults", [&] {
    const auto open = open_models().get(model, "model");
    check(options != nullptr, "options is NULL");
    *options = default_options(*open);
  });
}

taille_status taille_runner_open(taille_model* model, const taille_runner_options* options, taille_runner** runner) {
  if (runner != nullptr) *runner = nullptr;
  return guarded("taille_runner_open", [&] {
    check(runner != nullptr, "runner is NULL");
    auto open = std::make_shared<OpenRunner>();
    open->model = open_models().get(model, "model");
    open->batcher = batcher_of(*open->model, options != nullptr ? *options : default_options(*open->model));
    *runner = reinterpret_cast<taille_runner*>(open_runners().add(std::move(open)));
  });
}

taille_status taille_runner_submit(taille_runner* runner, const taille_tensor* inputs, size_t input_count,
                                   double deadline, int32_t priority, taille_done done, void* user_data,
                                   uint64_t* request) {
  return guarded("taille_runner_submit", [&] {
    const auto open = runner_of(runner);
    check(done != nullptr, "done is NULL");
    const std::vector<InputArray> arrays = open->model->arrays(inputs, input_count, true);
    BatchRequest wanted = request_of(arrays, deadline, priority);
    auto call = std::make_unique<SubmittedCall>(SubmittedCall{done, user_data});
    wanted.done = &done_submitted;
    wanted.context = call.get();
    const uint64_t id = open->batcher->submit(wanted);
    static_cast<void>(call.release());  // done_submitted() has it
    if (request != nullptr) *request = id;
  });
}

taille_status taille_runner_run(taille_runner* runner, const taille_tensor* inputs, size_t input_count, double deadline,
                                int32_t priority, taille_tensor* outputs, size_t output_count) {
  return guarded("taille_runner_run", [&] {
    const auto open = runner_of(runner);
    check_may_wait();
    const std::vector<InputArray> arrays = open->model->arrays(inputs, input_count, true);
    const std::vector<taille_tensor> shapes = open->model->shapes(*open->model->model->plan_for(arrays));
    open->model->check_outputs(arrays, shapes, outputs, output_count);
    BatchRequest wanted = request_of(arrays, deadline, priority);
    AwaitedCall call;
    wanted.done = &AwaitedCall::done;
    wanted.context = &call;
    const uint64_t id = open->batcher->submit(wanted);
    while (!call.is_done() && open->batcher->help(id)) {
    }
    const Reply reply = call.wait();
    check_done(reply);
    for (size_t i = 0; i < output_count; ++i)
      if (shapes[i].bytes > 0) std::memcpy(outputs[i].data, reply.outputs.array(i).data, shapes[i].bytes);
    copy_shapes(shapes, outputs, false);
  });
}

taille_status taille_runner_cancel(taille_runner* runner, uint64_t request, int32_t* cancelled) {
  return guarded("taille_runner_cancel", [&] {
    const bool taken_out = runner_of(runner)->batcher->cancel(request);
    if (cancelled != nullptr) *cancelled = taken_out;
  });
}

taille_status taille_runner_drain(taille_runner* runner, double seconds) {
  return guarded("taille_runner_drain", [&] {
    const auto open = runner_of(runner);
    check_may_wait();
    if (!open->batcher->drain(patience_of(seconds)))
      throw DeadlineError(concat("requests were still in flight after ", seconds, " s"));
  });
}

taille_status taille_runner_close(taille_runner* runner, double seconds) {
  return guarded("taille_runner_close", [&] {
    if (runner == nullptr) return;
    const auto open = runner_of(runner);
    check_may_wait();
    const std::optional<double> patience = patience_of(seconds);
    try {
      open->batcher->close(patience);
    } catch (const ClosedError&) {  // the parent's: here is nothing to wait for
    }
    // After what ran: until then, others are told that the runner is closed and not that there is none.
    open_runners().remove(runner, "runner");
  });
}

taille_status taille_runner_get_stats(const taille_runner* runner, taille_runner_stats* stats) {
  return guarded("taille_runner_get_stats", [&] {
    const auto open = runner_of(runner);
    check(stats != nullptr, "stats is NULL");
    const BatcherStats s = open->batcher->stats();
    taille_runner_stats out{};
    out.submitted = s.submitted;
    out.completed = s.completed;
    out.failed = s.failed;
    out.cancelled = s.cancelled;
    out.expired = s.expired;
    out.refused_full = s.refused_full;
    out.refused_deadline = s.refused_deadline;
    out.batches = s.batches;
    out.samples = s.samples;
    out.in_flight = s.in_flight;
    out.queue_depth = s.queue_depth;
    out.queue_peak = s.queue_peak;
    out.latency_p50 = s.latency_p50;
    out.latency_p90 = s.latency_p90;
    out.latency_p99 = s.latency_p99;
    out.latency_mean = s.latency_mean;
    *stats = out;
  });
}
