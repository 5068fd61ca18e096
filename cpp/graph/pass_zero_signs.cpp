// Zeros of float32 weights lose their sign: a mask that is multiplied, or a negative scale of a batch norm, leaves -0,
// and the artefact leaves out blocks of zero bytes only. No sum changes but one that underflowed, in its zero's sign.
#include <algorithm>
#include <bit>

#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

constexpr uint32_t kNegativeZero = 0x80000000u;

bool is_negative_zero(float x) { return std::bit_cast<uint32_t>(x) == kNegativeZero; }

// The node's weight with positive zeros, or null where it has no others.
TensorPtr positive(const Graph& g, const Node& node) {
  if (node.op != "linear" && node.op != "conv2d") return nullptr;
  const TensorPtr& w = g.value(node.inputs[1]).constant;
  if (w == nullptr || w->dtype != DType::f32) return nullptr;
  const std::span<const float> from(w->as<float>(), static_cast<size_t>(w->count()));
  if (std::ranges::none_of(from, is_negative_zero)) return nullptr;
  auto out = std::make_shared<Tensor>(DType::f32, w->dims);
  std::ranges::replace_copy_if(from, out->as<float>(), is_negative_zero, 0.0f);
  return out;
}

}  // namespace

Graph pass_zero_signs(const Graph& graph, const Evaluator&) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    const TensorPtr weight = positive(graph, node);
    if (weight != nullptr && r.uses[static_cast<size_t>(node.inputs[1])] == 1)  // no other reader sees the signs
      r.alias(node.inputs[1], r.constant(graph.value(node.inputs[1]).name, weight));
    r.copy(node);
  }
  return r.finish();
}

}  // namespace taille
