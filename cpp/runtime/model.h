// A graph made ready to run: one operator per node (weights packed), plans per shape, workspaces for concurrent runs.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "graph/graph.h"
#include "runtime/call_arrays.h"
#include "runtime/plan.h"

namespace taille {

class ResponseCache;

struct NodeInfo {
  std::string name, op, kernel, precision;
  Shape shape;
};

class Model {
 public:
  // threads = 0: as many as this process was granted. whole: every value is in one piece when a hook sees it (see
  // plan.h). Throws std::invalid_argument naming a node no kernel runs.
  Model(Graph graph, int threads, Isa isa, bool whole = false);

  const Graph& graph() const { return graph_; }
  int threads() const { return pool_.threads(); }
  Isa isa() const { return config_.isa; }

  // Throws TypeError or std::invalid_argument naming the input whose dtype, rank or dimensions do not fit the model, or
  // where there is another number of inputs.
  void check_inputs(std::span<const InputArray> inputs) const;
  // Checks the inputs and gives the plan
  // of these shapes, from the cache (the kMaxPlans last used shapes) where it is known.
  std::shared_ptr<const Plan> plan_for(std::span<const InputArray> inputs);
  // The plan of these shapes where it is known, else null. There are as many inputs as the graph has.
  std::shared_ptr<const Plan> known_plan(std::span<const InputArray> inputs);

  // Told each time a node has run (once for each sample in a sample loop): its step, seconds and output, which only a
  // model of whole values may read. May be empty.
  using Hook = std::function<void(const Step& step, double seconds, const void* output)>;

  // Inputs and outputs in graph order. Safe from several threads at once; with a plan seen before and no more
  // concurrent calls than before it allocates nothing.
  void run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs,
           const Hook& hook = {});
  // The same on threads of the caller's: at most as many as the model's.
  void run_on(ThreadPool& pool, const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs,
              const Hook& hook = {});

  // As run, or the outputs of the response cache where there is one. `inputs` are those of the plan.
  void answer(const Plan& plan, std::span<const InputArray> inputs, std::span<void* const> outputs);
  // What answers are kept in from now on; null: nowhere. One cache may serve several models.
  void set_cache(std::shared_ptr<ResponseCache> cache);
  std::shared_ptr<ResponseCache> cache() const;

  std::vector<NodeInfo> describe() const;
  size_t plan_count() const;
  int64_t arena_bytes() const;  // of all workspaces
  // Drops plans, workspaces and what the response cache holds, and ends the threads; the next run makes new ones.
  void release();

  static constexpr size_t kMaxPlans = 32;

 private:
  struct Workspace {
    Buffer arena;
    std::vector<const void*> pointers;
  };
  struct CachedPlan {
    std::vector<Dims> key;
    std::shared_ptr<const Plan> plan;
  };

  Graph graph_;
  ThreadPool pool_;
  EngineConfig config_;
  bool whole_;
  uint64_t id_;  // no other model of this process has or had it
  std::vector<OperatorPtr> operators_;
  std::atomic<bool> has_cache_{false};
  mutable std::mutex mutex_;  // guards all below
  std::shared_ptr<ResponseCache> cache_;
  std::list<CachedPlan> plans_;  // most recently used first
  std::vector<Workspace> workspaces_;
  int64_t arena_bytes_ = 0;

  SymbolValues bind_symbols(std::span<const InputArray> inputs) const;
  Workspace take_workspace(int64_t bytes);
  void give_back(Workspace workspace);
};

// The value of a node whose inputs are constants, or null where it cannot be run alone (for constant folding).
TensorPtr evaluate_node(const Graph& graph, const Node& node);

}  // namespace taille
