#include "runtime/model.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "runtime/response_cache.h"

namespace taille {

namespace {

std::string text_of_dims(const Dims& dims) { return text_of(Shape(dims.begin(), dims.end())); }

std::string precision_of(const Graph& g, const Node& node) {
  if (node.op == "embedding" && g.value(node.inputs[0]).dtype == DType::s8) return "int8";
  if (node.has_input(1) && g.value(node.inputs[1]).dtype == DType::s8) return "int8";
  if (node.op == "sdpa" && g.value(node.inputs[0]).dtype == DType::u8) return "int8";
  for (size_t i = 0; i < node.inputs.size(); ++i)  // computed in float32, on weights of 16 bits
    if (node.has_input(i) && is_half(g.value(node.inputs[i]).dtype))
      return std::string(name_of(g.value(node.inputs[i]).dtype));
  return std::string(name_of(g.value(node.output).dtype));
}

uint64_t new_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// Where a slot lies in this run.
struct Memory {
  const Graph& graph;
  std::span<const void* const> inputs;
  std::span<void* const> outputs;
  uint8_t* arena;

  const void* read(const Slot& s, int64_t sample = 0) const {
    switch (s.kind) {
      case Slot::Kind::none:
        return nullptr;
      case Slot::Kind::constant:
        return graph.values[static_cast<size_t>(s.at)].constant->data.data();
      case Slot::Kind::input:
        return static_cast<const uint8_t*>(inputs[static_cast<size_t>(s.at)]) + sample * s.advance;
      case Slot::Kind::output:
      case Slot::Kind::arena:
        return write(s, sample);
    }
    return nullptr;
  }
  void* write(const Slot& s, int64_t sample) const {
    const bool output = s.kind == Slot::Kind::output;
    uint8_t* begin = output ? static_cast<uint8_t*>(outputs[static_cast<size_t>(s.at)]) : arena + s.at;
    return begin + s.offset + sample * s.advance;
  }
};

}  // namespace

Model::Model(Graph graph, int threads, Isa isa, bool whole)
    : graph_(std::move(graph)),
      pool_(threads > 0 ? threads : granted_threads().threads),
      config_{isa, pool_.threads(), pool_.threads() > 1 ? pool_.fork_join_seconds() : 0},
      whole_(whole),
      id_(new_id()) {
  require_isa(isa);
  graph_.validate();
  for (const Node& node : graph_.nodes)
    operators_.push_back(node.op == "reshape" ? nullptr : make_operator(graph_, node, config_));
}

SymbolValues Model::bind_symbols(std::span<const InputArray> inputs) const {
  SymbolValues symbols;
  auto fail = [&](size_t i, const auto&... parts) {
    throw std::invalid_argument(concat("input '", graph_.value(graph_.inputs[i]).name, "' has shape ",
                                       text_of_dims(inputs[i].dims), "; wanted ",
                                       text_of(graph_.value(graph_.inputs[i]).shape), parts...));
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = graph_.value(graph_.inputs[i]);
    if (inputs[i].dtype != v.dtype)
      throw TypeError(concat("input '", v.name, "' is ", name_of(inputs[i].dtype), "; wanted ", name_of(v.dtype)));
    if (inputs[i].dims.size() != v.shape.size())
      fail(i, " (", inputs[i].dims.size(), " dimensions, wanted ", v.shape.size(), ")");
    for (size_t d = 0; d < v.shape.size(); ++d) {
      const std::string text = v.shape[d].text();
      const bool symbol = !v.shape[d].is_constant() && v.shape[d] == Dim::symbol(text);
      if (symbol) symbols.emplace(text, inputs[i].dims[d]);
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = graph_.value(graph_.inputs[i]);
    for (size_t d = 0; d < v.shape.size(); ++d) {
      const int64_t wanted = v.shape[d].evaluate(symbols);
      if (inputs[i].dims[d] == wanted) continue;
      if (v.shape[d].is_constant()) fail(i);
      fail(i, "; '", v.shape[d].text(), "' is ", wanted, " from an earlier input or dimension");
    }
  }
  return symbols;
}

void Model::check_inputs(std::span<const InputArray> inputs) const {
  check(inputs.size() == graph_.inputs.size(), "the model takes ", graph_.inputs.size(), " inputs; ", inputs.size(),
        " were given");
  bind_symbols(inputs);
}

std::shared_ptr<const Plan> Model::known_plan(std::span<const InputArray> inputs) {
  auto same = [&](const CachedPlan& cached) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (cached.key[i] != inputs[i].dims || graph_.value(graph_.inputs[i]).dtype != inputs[i].dtype) return false;
    return true;
  };
  std::lock_guard lock(mutex_);
  auto it = std::find_if(plans_.begin(), plans_.end(), same);
  if (it == plans_.end()) return nullptr;
  plans_.splice(plans_.begin(), plans_, it);
  return it->plan;
}

std::shared_ptr<const Plan> Model::plan_for(std::span<const InputArray> inputs) {
  if (inputs.size() != graph_.inputs.size()) check_inputs(inputs);
  if (auto known = known_plan(inputs)) return known;
  const SymbolValues symbols = bind_symbols(inputs);
  auto plan = std::make_shared<const Plan>(make_plan(graph_, operators_, symbols, whole_));
  CachedPlan entry{{}, plan};
  for (const InputArray& in : inputs) entry.key.push_back(in.dims);
  std::lock_guard lock(mutex_);
  plans_.push_front(std::move(entry));
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  return plan;
}

Model::Workspace Model::take_workspace(int64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    if (!workspaces_.empty()) {
      Workspace w = std::move(workspaces_.back());
      workspaces_.pop_back();
      if (static_cast<int64_t>(w.arena.size()) >= bytes) return w;
      arena_bytes_ -= static_cast<int64_t>(w.arena.size());
    }
    arena_bytes_ += bytes;
  }
  Workspace w;
  try {
    w.arena = Buffer(static_cast<size_t>(bytes));
  } catch (...) {
    std::lock_guard lock(mutex_);
    arena_bytes_ -= bytes;
    throw;
  }
  return w;
}

void Model::give_back(Workspace workspace) {
  std::lock_guard lock(mutex_);
  workspaces_.push_back(std::move(workspace));
}

void Model::run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs,
                const Hook& hook) {
  run_on(pool_, plan, inputs, outputs, hook);
}

void Model::run_on(ThreadPool& pool, const Plan& plan, std::span<const void* const> inputs,
                   std::span<void* const> outputs, const Hook& hook) {
  check(pool.threads() <= pool_.threads(), "a model of ", pool_.threads(), " threads cannot run on ", pool.threads());
  // Gives the workspace back on every way out.
  struct Lease {
    Model& model;
    Workspace w;
    ~Lease() { model.give_back(std::move(w)); }
  } lease{*this, take_workspace(plan.arena_bytes)};
  const FlushDenormals flush;
  const Memory memory{graph_, inputs, outputs, lease.w.arena.data()};
  std::vector<const void*>& pointers = lease.w.pointers;
  auto run_step = [&](const Step& step, int64_t sample) {
    pointers.clear();
    for (const Slot& s : step.inputs) pointers.push_back(memory.read(s, sample));
    void* out = memory.write(step.output, sample);
    const RunContext context{pool, pointers, out, memory.arena + plan.scratch_offset};
    if (!hook) return step.planned.run(context);
    const auto start = std::chrono::steady_clock::now();
    step.planned.run(context);
    hook(step, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), out);
  };
  size_t at = 0;
  for (const SampleLoop& loop : plan.loops) {
    for (; at < loop.first; ++at) run_step(plan.steps[at], 0);
    for (int64_t sample = 0; sample < loop.samples; ++sample)
      for (at = loop.first; at < loop.last; ++at) run_step(plan.steps[at], sample);
  }
  for (; at < plan.steps.size(); ++at) run_step(plan.steps[at], 0);
  for (const Plan::OutputCopy& copy : plan.copies)
    if (copy.bytes > 0) std::memcpy(outputs[copy.output], memory.read(copy.from), static_cast<size_t>(copy.bytes));
}

void Model::answer(const Plan& plan, std::span<const InputArray> inputs, std::span<void* const> outputs) {
  const auto run_on = [&](std::span<const void* const> from, std::span<void* const> to) { run(plan, from, to); };
  if (const auto kept = has_cache_.load(std::memory_order_relaxed) ? cache() : nullptr) {
    std::vector<OutputArray> arrays;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ValueId v = graph_.outputs[i];
      int64_t bytes = static_cast<int64_t>(size_of(graph_.value(v).dtype));
      for (int64_t d : plan.dims[static_cast<size_t>(v)]) bytes *= d;
      arrays.push_back({outputs[i], bytes});
    }
    return kept->answer(id_, inputs, arrays, run_on);
  }
  std::vector<const void*> from;
  for (const InputArray& input : inputs) from.push_back(input.data);
  run_on(from, outputs);
}

void Model::set_cache(std::shared_ptr<ResponseCache> cache) {
  {
    std::lock_guard lock(mutex_);
    std::swap(cache_, cache);
    has_cache_.store(cache_ != nullptr, std::memory_order_relaxed);
  }
  // The one before goes here, after the lock.
}

std::shared_ptr<ResponseCache> Model::cache() const {
  std::lock_guard lock(mutex_);
  return cache_;
}

std::vector<NodeInfo> Model::describe() const {
  std::vector<NodeInfo> out;
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    out.push_back({node.name, node.op, operators_[n] ? operators_[n]->kernel() : "view", precision_of(graph_, node),
                   graph_.value(node.output).shape});
  }
  return out;
}

size_t Model::plan_count() const {
  std::lock_guard lock(mutex_);
  return plans_.size();
}

int64_t Model::arena_bytes() const {
  std::lock_guard lock(mutex_);
  return arena_bytes_;
}

void Model::release() {
  if (const auto kept = cache()) kept->clear();
  pool_.release();
  std::lock_guard lock(mutex_);
  plans_.clear();
  for (const Workspace& w : workspaces_) arena_bytes_ -= static_cast<int64_t>(w.arena.size());
  workspaces_.clear();
}

TensorPtr evaluate_node(const Graph& graph, const Node& node) {
  // Evaluated at the portable level: the same bits as any other, whatever machine compiles.
  const EngineConfig config{Isa::portable, 1, 0};
  Node copy = node;
  Graph alone;
  std::vector<const void*> inputs;
  for (ValueId& i : copy.inputs) {
    if (i == kNone) {
      inputs.push_back(nullptr);
      continue;
    }
    inputs.push_back(graph.value(i).constant->data.data());
    i = alone.add_constant(graph.value(i).name, graph.value(i).constant);
  }
  const std::string op = copy.op;
  const ValueId id = alone.add_node(copy);
  const SymbolValues no_symbols;
  const Dims dims = evaluate(alone.value(id).shape, no_symbols);
  auto result = std::make_shared<Tensor>(alone.value(id).dtype, dims);
  if (op == "reshape") {
    if (result->data.size() > 0) std::memcpy(result->data.data(), inputs[0], result->data.size());
    return result;
  }
  OperatorPtr run;
  try {
    run = make_operator(alone, alone.nodes[0], config);
  } catch (const std::invalid_argument&) {
    return nullptr;  // e.g. an NCHW convolution: left to the graph
  }
  NodeShapes shapes{{}, dims, dims.empty() ? 1 : dims.back(), no_symbols};
  for (ValueId i : alone.nodes[0].inputs)
    shapes.inputs.push_back(i == kNone ? Dims{} : evaluate(alone.value(i).shape, no_symbols));
  const Planned planned = run->plan(shapes);
  Buffer scratch(static_cast<size_t>(planned.scratch_bytes) + 64);
  ThreadPool pool(1);
  planned.run({pool, inputs, result->data.data(), scratch.data()});
  return result;
}

}  // namespace taille
