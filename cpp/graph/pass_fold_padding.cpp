// A pad by zeros around an image, read by convolutions only, becomes their padding: they skip it through their offset
// tables, so nothing is copied.
#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

// top, left, bottom, right of a pad of the image axes alone; empty otherwise.
List image_padding(const Node& pad) {
  const List &before = pad.attr<List>("before"), &after = pad.attr<List>("after");
  if (before.size() != 4 || pad.attr<double>("value") != 0) return {};
  if (before[0] || after[0] || before[1] || after[1]) return {};  // batch and channels, NCHW
  return {before[2], before[3], after[2], after[3]};
}

}  // namespace

Graph pass_fold_padding(const Graph& graph, const Evaluator&) {
  Rewriter r(graph);
  const auto producers = graph.producers();
  for (const Node& node : graph.nodes) {
    const int32_t maker = node.op == "conv2d" ? producers[static_cast<size_t>(node.inputs[0])] : -1;
    const Node* pad = maker >= 0 ? &graph.nodes[static_cast<size_t>(maker)] : nullptr;
    const List extra =
        pad && pad->op == "pad" && node.attr<std::string>("layout") == "nchw" ? image_padding(*pad) : List{};
    if (extra.empty()) {
      r.copy(node);
      continue;
    }
    Attrs attrs = node.attrs;
    List padding = node.attr<List>("padding");
    for (size_t i = 0; i < 4; ++i) padding[i] += extra[i];
    attrs["padding"] = padding;
    std::vector<ValueId> inputs = {r.map(pad->inputs[0])};
    for (size_t i = 1; i < node.inputs.size(); ++i) inputs.push_back(r.map(node.inputs[i]));
    r.alias(node.output, r.emit("conv2d", std::move(inputs), std::move(attrs), node, ""));
  }
  return r.finish();
}

}  // namespace taille
