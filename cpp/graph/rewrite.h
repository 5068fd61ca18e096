// Rebuilds a graph node by node. A pass walks the old nodes in order; each is copied, replaced, or absorbed into a
// node already emitted. What nothing reads any more is dropped by finish().
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace taille {

class Rewriter {
 public:
  explicit Rewriter(const Graph& from);

  const Graph& from;
  Graph out;
  const std::vector<int32_t> uses;  // of the old values

  // The new value that stands for an old one (constants are copied at first use; kNone stays kNone).
  ValueId map(ValueId old);
  void alias(ValueId old, ValueId now) { map_[static_cast<size_t>(old)] = now; }
  bool is_mapped(ValueId old) const { return map_[static_cast<size_t>(old)] != kNone; }

  // Emits the node with its inputs mapped, and maps its output.
  ValueId copy(const Node& node);
  // Emits a new node on new values; its name gets a suffix where it is taken.
  ValueId emit(std::string op, std::vector<ValueId> inputs, Attrs attrs, const Node& origin, const std::string& suffix,
               std::optional<Quant> quant = {});
  ValueId constant(const std::string& name, TensorPtr tensor);
  // A one-element float constant.
  ValueId scalar(const std::string& name, float value);

  // The emitted node that makes a new value, or null (inputs, constants). Valid until the next emit.
  Node* producer(ValueId now);
  // Moves the emitted node that makes `now` behind all others, so that it may read what was emitted since.
  void move_last(ValueId now);

  Graph finish();

 private:
  std::vector<ValueId> map_;
  std::set<std::string> names_;
  std::string unique(const std::string& name);
};

// The graph without nodes and values that no output depends on (graph inputs stay).
Graph without_dead_code(const Graph& graph);

// A constant moved by `axes` (out dimension i = in dimension axes[i]), or reinterpreted with another shape.
TensorPtr permuted(const Tensor& tensor, const std::vector<int64_t>& axes);
TensorPtr reshaped(const Tensor& tensor, std::vector<int64_t> dims);

}  // namespace taille
