// The passes: graph to graph, each testable alone, run in one visible order.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "graph/graph.h"

namespace taille {

// Computes a node whose inputs are all constants, or gives null where it cannot; the runtime provides it (the graph
// layer runs nothing).
using Evaluator = std::function<TensorPtr(const Graph&, const Node&)>;

struct Pass {
  const char* name;
  const char* what;  // one line for `taille inspect`
  Graph (*run)(const Graph&, const Evaluator&);
};

// In the order in which optimize() runs them.
std::span<const Pass> passes();

// All passes. Where `dump_after` names one, *dump gets the graph's text after (each run of) it.
Graph optimize(const Graph& graph, const Evaluator& evaluate, const std::string& dump_after = "",
               std::string* dump = nullptr);

Graph pass_simplify(const Graph& graph, const Evaluator& evaluate);
Graph pass_fold_constants(const Graph& graph, const Evaluator& evaluate);
Graph pass_fold_batch_norm(const Graph& graph, const Evaluator& evaluate);
Graph pass_fold_padding(const Graph& graph, const Evaluator& evaluate);
Graph pass_layout(const Graph& graph, const Evaluator& evaluate);
Graph pass_attention(const Graph& graph, const Evaluator& evaluate);
Graph pass_rms_norm(const Graph& graph, const Evaluator& evaluate);
Graph pass_fuse(const Graph& graph, const Evaluator& evaluate);
Graph pass_zero_signs(const Graph& graph, const Evaluator& evaluate);

}  // namespace taille
