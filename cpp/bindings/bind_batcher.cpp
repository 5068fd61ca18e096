// The batcher, with Python futures in the place of callbacks.
//
// A batch's futures are settled together, under one taking of the interpreter lock: taking it for each would let other
// threads have it in between, for 5 ms at a time.
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "bindings/arrays.h"
#include "runtime/batch_axis.h"
#include "runtime/batch_queue.h"
#include "runtime/batcher.h"
#include "runtime/runner_choice.h"

namespace taille {

namespace {

// A request on its way: keeps its arrays and its future alive. Made and deleted under the interpreter lock.
struct BatchedCall {
  InputArrays inputs;
  py::object future;
};

// Of this thread: what done_call() was told since the last flush_calls().
thread_local std::vector<std::pair<std::unique_ptr<BatchedCall>, Reply>> finished_calls;

void done_call(void* context, Reply&& reply) {
  finished_calls.emplace_back(static_cast<BatchedCall*>(context), std::move(reply));
}

// The outputs as numpy arrays that share one owner; nothing is copied.
py::list arrays_of(Outputs outputs) {
  auto owner = std::make_unique<Outputs>(std::move(outputs));
  const Outputs& held = *owner;
  const py::capsule base(owner.release(), [](void* o) { delete static_cast<Outputs*>(o); });
  py::list out;
  for (size_t i = 0; i < held.count(); ++i) {
    const Outputs::Array& a = held.array(i);
    out.append(py::array(numpy_dtype(a.dtype), a.dims, a.data, base));
  }
  return out;
}

// The Python exception that a binding would have raised.
py::object exception_of(const std::exception_ptr& error) {
  try {
    py::cpp_function([&error] { std::rethrow_exception(error); })();
  } catch (py::error_already_set& raised) {
    return raised.value();
  }
  return py::none();
}

void settle(const py::object& future, Reply&& reply) {
  try {
    if (reply.outcome == Outcome::done)
      future.attr("set_result")(arrays_of(std::move(reply.outputs)));
    else if (reply.outcome == Outcome::cancelled)
      future.attr("set_cancelled")();
    else
      future.attr("set_exception")(exception_of(reply.error));
  } catch (py::error_already_set& raised) {  // nobody is there to be told
    raised.discard_as_unraisable("taille: settling a future");
  }
}

void flush_calls(void*) {
  const py::gil_scoped_acquire gil;
  auto calls = std::exchange(finished_calls, {});  // what is called below may come here again
  for (auto& [call, reply] : calls) {
    settle(call->future, std::move(reply));
    call.reset();
  }
}

class FutureBatcher {
 public:
  FutureBatcher(std::shared_ptr<Model> model, BatcherOptions options)
      : batcher_((options.flush = &flush_calls, std::move(model)), options) {}

  Batcher& batcher() { return batcher_; }

  uint64_t submit(InputArrays inputs, py::object future, std::optional<double> deadline, int priority) {
    std::vector<int64_t> shapes = shapes_of(inputs);
    auto call = std::make_unique<BatchedCall>(std::move(inputs), std::move(future));
    const uint64_t id = batcher_.submit({.inputs = call->inputs.arrays,
                                         .deadline = deadline,
                                         .priority = priority,
                                         .done = &done_call,
                                         .context = call.get()});
    static_cast<void>(call.release());  // done_call() has it
    if (known_.size() >= kMaxKnown) known_.clear();
    known_.insert(std::move(shapes));
    return id;
  }

  // Whether inputs of these shapes and dtypes were taken before.
  bool knows(const InputArrays& inputs) const {
    const Graph& g = batcher_.model().graph();
    for (size_t i = 0; i < inputs.arrays.size(); ++i)
      if (inputs.arrays[i].dtype != g.value(g.inputs[i]).dtype) return false;
    return known_.contains(shapes_of(inputs));
  }

 private:
  static constexpr size_t kMaxKnown = 256;

  Batcher batcher_;
  std::set<std::vector<int64_t>> known_;  // under the interpreter lock

  static std::vector<int64_t> shapes_of(const InputArrays& inputs) {
    std::vector<int64_t> out;
    for (const InputArray& a : inputs.arrays) {
      out.push_back(static_cast<int64_t>(a.dims.size()));
      out.insert(out.end(), a.dims.begin(), a.dims.end());
    }
    return out;
  }
};

// The destructor waits for a batch, whose futures are settled under the interpreter lock.
struct DeleteWithoutGil {
  void operator()(FutureBatcher* batcher) const {
    const py::gil_scoped_release nogil;
    delete batcher;
  }
};

py::object submit_again(FutureBatcher& self, py::handle given, py::object future, std::optional<double> deadline,
                        int priority) {
  std::optional<InputArrays> inputs = InputArrays::plain(self.batcher().model().graph(), given);
  if (!inputs || !self.knows(*inputs)) return py::none();
  return py::cast(self.submit(std::move(*inputs), std::move(future), deadline, priority));
}

py::dict stats_of(FutureBatcher& self) {
  const BatcherStats s = self.batcher().stats();
  py::dict sizes;
  for (size_t n = 0; n < s.batch_sizes.size(); ++n)
    if (s.batch_sizes[n] > 0) sizes[py::int_(n)] = s.batch_sizes[n];
  py::dict out;
  out["submitted"] = s.submitted;
  out["completed"] = s.completed;
  out["failed"] = s.failed;
  out["cancelled"] = s.cancelled;
  out["expired"] = s.expired;
  out["refused_full"] = s.refused_full;
  out["refused_deadline"] = s.refused_deadline;
  out["batches"] = s.batches;
  out["samples"] = s.samples;
  out["batch_sizes"] = sizes;
  out["queue_depth"] = s.queue_depth;
  out["queue_peak"] = s.queue_peak;
  out["in_flight"] = s.in_flight;
  out["latency_p50"] = s.latency_p50;
  out["latency_p90"] = s.latency_p90;
  out["latency_p99"] = s.latency_p99;
  out["latency_mean"] = s.latency_mean;
  out["latencies"] = s.latencies;
  return out;
}

std::unique_ptr<FutureBatcher, DeleteWithoutGil> make_batcher(std::shared_ptr<Model> model, int streams, int threads,
                                                              int64_t max_batch, double timeout, double max_latency,
                                                              int64_t queue_size) {
  const BatcherOptions options{.streams = streams,
                               .threads = threads,
                               .max_batch = max_batch,
                               .timeout = timeout,
                               .max_latency = max_latency,
                               .queue_size = queue_size};
  return std::unique_ptr<FutureBatcher, DeleteWithoutGil>(new FutureBatcher(std::move(model), options));
}

// A BatchQueue whose time is told in seconds.
class ToldQueue {
 public:
  ToldQueue(int64_t max_batch, double timeout, int streams, double max_latency)
      : queue_({max_batch, timeout, streams, max_latency}) {}

  uint64_t push(const BatchQueue::Key& key, double now, int64_t samples, double deadline, bool promised, int priority) {
    BatchQueue::Requests one(1);
    BatchQueue::Request& r = one.front();
    r.id = ++last_;
    r.samples = samples;
    r.priority = priority;
    r.arrival = at(now);
    r.deadline = at(deadline);
    r.promised = promised;
    queue_.push(one, key, at(now));
    return last_;
  }
  bool remove(uint64_t id) { return !queue_.remove(id).empty(); }

  // When the next batch closes; None where nothing waits.
  std::optional<double> closes(double now, bool hurry) {
    const BatchQueue::Next next = queue_.next(at(now), hurry);
    if (!next.group) return {};
    return std::chrono::duration<double>(next.when.time_since_epoch()).count();
  }
  // The batch that is next, however early: what it holds and what expired. It runs until ran().
  std::pair<std::vector<uint64_t>, std::vector<uint64_t>> take(double now, bool hurry) {
    const BatchQueue::Next next = queue_.next(at(now), true);
    check(next.group != nullptr, "nothing waits");
    BatchQueue::Batch batch = queue_.take(next.group, at(now), hurry);
    std::pair<std::vector<uint64_t>, std::vector<uint64_t>> out;
    for (const auto& r : batch.requests) out.first.push_back(r.id);
    for (const auto& r : batch.expired) out.second.push_back(r.id);
    if (!batch.requests.empty()) running_.push_back(std::move(batch));
    return out;
  }
  void ran(double seconds) {
    check(!running_.empty(), "nothing runs");
    const BatchQueue::Batch& batch = running_.front();
    queue_.ran(batch.group, batch.end, seconds, batch.samples);
    running_.pop_front();
  }
  double seconds_to_done(const BatchQueue::Key& key, double now, int64_t samples, int priority) const {
    return queue_.seconds_to_done(key, samples, priority, at(now));
  }
  size_t size() const { return queue_.size(); }

 private:
  BatchQueue queue_;
  std::list<BatchQueue::Batch> running_;
  uint64_t last_ = 0;

  static BatchTime at(double seconds) { return BatchTime{} + batch_seconds(seconds); }
};

void bind_queue(py::module_& m) {
  py::class_<ToldQueue>(m, "BatchQueue", "When batches close and what they take, with time as it is told.")
      .def(py::init<int64_t, double, int, double>(), py::arg("max_batch"), py::arg("timeout"), py::arg("streams") = 1,
           py::arg("max_latency") = 1e6)
      .def("push", &ToldQueue::push, py::arg("key"), py::arg("now"), py::arg("samples") = 1, py::arg("deadline") = 1e6,
           py::arg("promised") = false, py::arg("priority") = 0)
      .def("remove", &ToldQueue::remove, py::arg("number"))
      .def("closes", &ToldQueue::closes, py::arg("now"), py::arg("hurry") = false)
      .def("take", &ToldQueue::take, py::arg("now"), py::arg("hurry") = false)
      .def("ran", &ToldQueue::ran, py::arg("seconds"))
      .def("seconds_to_done", &ToldQueue::seconds_to_done, py::arg("key"), py::arg("now"), py::arg("samples") = 1,
           py::arg("priority") = 0)
      .def("size", &ToldQueue::size);
}

}  // namespace

void bind_batcher(py::module_& m) {
  m.def("this_cpu", &this_cpu, "What the best options of a runner hang on: CPU, level and granted threads.");
  const auto no_gil = py::call_guard<py::gil_scoped_release>();  // workers settle futures while these wait
  py::class_<FutureBatcher, std::unique_ptr<FutureBatcher, DeleteWithoutGil>>(
      m, "Batcher", "Puts requests together; a future has set_result, set_exception and set_cancelled.")
      .def(py::init(&make_batcher), py::arg("model"), py::arg("streams"), py::arg("threads"), py::arg("max_batch"),
           py::arg("timeout"), py::arg("max_latency"), py::arg("queue_size"))
      .def(
          "submit",
          [](FutureBatcher& self, const py::dict& inputs, py::object future, std::optional<double> deadline,
             int priority) {
            return self.submit(InputArrays(self.batcher().model().graph(), inputs), std::move(future), deadline,
                               priority);
          },
          py::arg("inputs"), py::arg("future"), py::arg("deadline") = py::none(), py::arg("priority") = 0,
          "Queues a request; its number.")
      .def("submit_again", &submit_again, py::arg("inputs"), py::arg("future"), py::arg("deadline") = py::none(),
           py::arg("priority") = 0,
           "`submit` of plain numpy arrays (by name, as a tuple, or one) of dtypes and shapes that came before; else "
           "None.")
      .def(
          "cancel", [](FutureBatcher& self, uint64_t id) { return self.batcher().cancel(id); }, py::arg("number"),
          no_gil)
      .def(
          "waits", [](FutureBatcher& self, uint64_t id) { return self.batcher().waits(id); }, py::arg("number"), no_gil)
      .def(
          "help", [](FutureBatcher& self, uint64_t id) { return self.batcher().help(id); }, py::arg("number"), no_gil,
          "Runs that request's batch in this thread, if it may run now; whether one was run.")
      .def(
          "drain", [](FutureBatcher& self, std::optional<double> seconds) { return self.batcher().drain(seconds); },
          py::arg("seconds") = py::none(), no_gil)
      .def(
          "close", [](FutureBatcher& self, std::optional<double> seconds) { self.batcher().close(seconds); },
          py::arg("seconds") = py::none(), no_gil)
      .def("stats", &stats_of)
      .def_property_readonly("closed", [](FutureBatcher& self) { return self.batcher().closed(); })
      .def_property_readonly("why", [](FutureBatcher& self) { return self.batcher().why(); })
      .def_property_readonly("threads", [](FutureBatcher& self) { return self.batcher().options().threads; });
}

void bind_testing_batcher(py::module_& m) {
  bind_queue(m);
  m.def("why_not_batched", &why_not_batched, py::arg("graph"), "Why requests run one by one; '' where they do not.");
  m.def(
      "histogram_quantiles",
      [](const std::vector<double>& seconds, const std::vector<double>& shares) {
        DurationHistogram histogram;
        for (double s : seconds) histogram.add(s);
        const DurationHistogram::Snapshot snapshot = histogram.snapshot();
        std::vector<double> out;
        for (double share : shares) out.push_back(snapshot.quantile(share));
        return out;
      },
      py::arg("seconds"), py::arg("shares"));
}

}  // namespace taille
