// Transformers split heads by a view and transpose [N,S,H,D] to [N,H,S,D] before attention, and back after it. The
// kernel takes strides, so attention runs on [N,S,H,D] and the transposes fall away (in pairs, in simplify).
#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

const std::vector<int64_t> kSwapHeads = {0, 2, 1, 3};

// The value under a swap of heads and sequence, or kNone.
ValueId before_swap(Rewriter& r, ValueId now) {
  const Node* p = r.producer(now);
  const bool swap = p && p->op == "permute" && p->attr<std::vector<int64_t>>("axes") == kSwapHeads;
  return swap ? p->inputs[0] : kNone;
}

}  // namespace

Graph pass_attention(const Graph& graph, const Evaluator&) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    std::vector<ValueId> inputs;
    bool swapped = node.op == "sdpa" && !node.attr<bool>("heads_last");
    for (size_t i = 0; swapped && i < 3; ++i) {
      inputs.push_back(before_swap(r, r.map(node.inputs[i])));
      swapped = inputs.back() != kNone;
    }
    if (!swapped) {
      r.copy(node);
      continue;
    }
    if (node.has_input(3)) inputs.push_back(r.map(node.inputs[3]));
    Attrs attrs = node.attrs;
    attrs["heads_last"] = true;
    const ValueId now = r.emit("sdpa", std::move(inputs), std::move(attrs), node, "");
    r.alias(node.output, r.emit("permute", {now}, {{"axes", kSwapHeads}}, node, ".swap_heads"));
  }
  return r.finish();
}

}  // namespace taille
