#include "runtime/batch_stream.h"

#include <algorithm>
#include <cstring>

#include "runtime/operator.h"

namespace taille {

namespace {

size_t bytes_of(DType dtype, const Dims& dims) { return static_cast<size_t>(product(dims)) * size_of(dtype); }

size_t aligned(size_t bytes) { return static_cast<size_t>(round_up(static_cast<int64_t>(bytes), 64)); }

// Grows by half at least, so that batches that grow one by one do not each allocate.
void grow(Buffer& buffer, size_t bytes) {
  if (buffer.size() < bytes) buffer = Buffer(std::max(bytes, buffer.size() + buffer.size() / 2));
}

double seconds_since(BatchTime start) { return std::chrono::duration<double>(BatchClock::now() - start).count(); }

}  // namespace

Outputs::Outputs(const Graph& graph, const Plan& plan, std::optional<int64_t> samples) {
  size_t total = 0;
  arrays_.reserve(graph.outputs.size());
  for (ValueId v : graph.outputs) {
    Array a{nullptr, graph.value(v).dtype, plan.dims[static_cast<size_t>(v)], 0};
    if (samples) a.dims[0] = *samples;
    a.bytes = bytes_of(a.dtype, a.dims);
    total += aligned(a.bytes);
    arrays_.push_back(std::move(a));
  }
  memory_ = Buffer(total);
  uint8_t* at = memory_.data();
  for (Array& a : arrays_) {
    a.data = at;
    at += aligned(a.bytes);
  }
}

std::optional<double> BatchStream::run(Model& model, BatchQueue::Batch& batch) {
  if (batch.requests.size() == 1) return run_alone(model, batch.requests.front());
  try {
    return run_together(model, batch);
  } catch (const std::exception&) {  // told to whom it concerns below
    for (BatchQueue::Request& r : batch.requests) run_alone(model, r);
    return {};
  }
}

std::optional<double> BatchStream::run_alone(Model& model, BatchQueue::Request& r) {
  try {
    const auto plan = model.plan_for(r.inputs);
    const auto start = BatchClock::now();
    r.reply.outputs = Outputs(model.graph(), *plan);
    from_.clear();
    to_.clear();
    for (const InputArray& in : r.inputs) from_.push_back(in.data);
    for (size_t i = 0; i < r.reply.outputs.count(); ++i) to_.push_back(r.reply.outputs.array(i).data);
    model.run_on(pool_, *plan, from_, to_);
    r.reply.outcome = Outcome::done;
    return seconds_since(start);
  } catch (...) {
    r.reply = {Outcome::failed, {}, std::current_exception()};
    return {};
  }
}

double BatchStream::run_together(Model& model, BatchQueue::Batch& batch) {
  const Graph& graph = model.graph();
  const auto begin = BatchClock::now();
  gather(batch, graph);
  const auto gathered = BatchClock::now();
  const auto plan = model.plan_for(inputs_);
  const auto start = BatchClock::now();
  from_.clear();
  to_.clear();
  for (const InputArray& in : inputs_) from_.push_back(in.data);
  auto output_bytes = [&](ValueId v) {
    return aligned(bytes_of(graph.value(v).dtype, plan->dims[static_cast<size_t>(v)]));
  };
  size_t total = 0;
  for (ValueId v : graph.outputs) total += output_bytes(v);
  grow(results_, total);
  uint8_t* at = results_.data();
  for (ValueId v : graph.outputs) {
    to_.push_back(at);
    at += output_bytes(v);
  }
  model.run_on(pool_, *plan, from_, to_);
  scatter(batch, graph, *plan);
  return seconds_since(start) + std::chrono::duration<double>(gathered - begin).count();
}

void BatchStream::gather(const BatchQueue::Batch& batch, const Graph& graph) {
  inputs_.clear();
  size_t total = 0;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    InputArray whole = batch.requests.front().inputs[i];
    whole.dims[0] = batch.samples;
    total += aligned(bytes_of(whole.dtype, whole.dims));
    inputs_.push_back(std::move(whole));
  }
  grow(gathered_, total);
  uint8_t* at = gathered_.data();
  for (size_t i = 0; i < inputs_.size(); ++i) {
    uint8_t* next = at;
    inputs_[i].data = at;
    for (const BatchQueue::Request& r : batch.requests) {
      const size_t bytes = bytes_of(r.inputs[i].dtype, r.inputs[i].dims);
      if (bytes > 0) std::memcpy(next, r.inputs[i].data, bytes);
      next += bytes;
    }
    at += aligned(bytes_of(inputs_[i].dtype, inputs_[i].dims));
  }
}

void BatchStream::scatter(BatchQueue::Batch& batch, const Graph& graph, const Plan& plan) {
  for (BatchQueue::Request& r : batch.requests) {
    r.reply = {Outcome::done, Outputs(graph, plan, r.samples), nullptr};
    for (size_t i = 0; i < to_.size(); ++i) {
      const Outputs::Array& own = r.reply.outputs.array(i);
      if (own.bytes > 0) std::memcpy(own.data, to_[i], own.bytes);
      to_[i] = static_cast<uint8_t*>(to_[i]) + own.bytes;  // the next request's part
    }
  }
}

}  // namespace taille
