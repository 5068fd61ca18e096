// Computes once, at compile time, every node that depends on constants only.
#include <algorithm>

#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

constexpr int64_t kMaxFoldedElements = int64_t{1} << 24;

bool is_static(const Shape& shape) {
  return std::all_of(shape.begin(), shape.end(), [](const Dim& d) { return d.is_constant(); });
}

}  // namespace

Graph pass_fold_constants(const Graph& graph, const Evaluator& evaluate) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    const Value& old = graph.value(node.output);
    bool foldable =
        is_static(old.shape) && element_count(old.shape).constant() <= kMaxFoldedElements && old.dtype != DType::u8;
    Node now = node;
    for (ValueId& i : now.inputs) {
      i = r.map(i);
      foldable = foldable && (i == kNone || r.out.is_constant(i));
    }
    const TensorPtr folded = foldable ? evaluate(r.out, now) : nullptr;
    if (folded)
      r.alias(node.output, r.constant(node.name + ".folded", folded));
    else
      r.copy(node);
  }
  return r.finish();
}

}  // namespace taille
