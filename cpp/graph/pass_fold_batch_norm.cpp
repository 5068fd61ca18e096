// Batch norm at inference is y = x * s + t per channel, s = gamma / sqrt(variance + epsilon), t = beta - mean * s.
// After a convolution or linear that nothing else reads it goes into the weights; elsewhere it becomes a product and
// a sum. s and t are computed in double, so that folding costs no more than one rounding per weight.
#include <cmath>

#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

struct Affine {
  std::vector<double> scale, shift;
};

Affine affine_of(const Graph& g, const Node& bn) {
  auto data = [&](size_t i) { return g.value(bn.inputs[i]).constant->as<float>(); };
  const auto channels = static_cast<size_t>(g.value(bn.inputs[1]).constant->count());
  Affine a{std::vector<double>(channels), std::vector<double>(channels)};
  for (size_t c = 0; c < channels; ++c) {
    a.scale[c] = data(1)[c] / std::sqrt(static_cast<double>(data(4)[c]) + bn.attr<double>("epsilon"));
    a.shift[c] = data(2)[c] - data(3)[c] * a.scale[c];
  }
  return a;
}

TensorPtr scaled_weight(const Tensor& w, const Affine& a) {
  auto out = std::make_shared<Tensor>(w.dtype, w.dims);
  const auto rows = a.scale.size();
  const size_t row = static_cast<size_t>(w.count()) / rows;
  for (size_t i = 0; i < rows * row; ++i) out->as<float>()[i] = static_cast<float>(w.as<float>()[i] * a.scale[i / row]);
  return out;
}

TensorPtr scaled_bias(const Tensor* bias, const Affine& a) {
  auto out = std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{static_cast<int64_t>(a.scale.size())});
  for (size_t c = 0; c < a.scale.size(); ++c)
    out->as<float>()[c] = static_cast<float>((bias ? bias->as<float>()[c] : 0.0) * a.scale[c] + a.shift[c]);
  return out;
}

// [C] as [C, 1, ..] so that it broadcasts over [N, C, ..]
ValueId channel_constant(Rewriter& r, const std::string& name, const std::vector<double>& v, size_t rank) {
  std::vector<int64_t> dims(rank - 1, 1);
  dims[0] = static_cast<int64_t>(v.size());
  auto t = std::make_shared<Tensor>(DType::f32, dims);
  for (size_t c = 0; c < v.size(); ++c) t->as<float>()[c] = static_cast<float>(v[c]);
  return r.constant(name, t);
}

void fold(Rewriter& r, const Node& bn) {
  const Affine a = affine_of(r.from, bn);
  const ValueId x = r.map(bn.inputs[0]);
  Node* layer = r.producer(x);
  const bool single = r.uses[static_cast<size_t>(bn.inputs[0])] == 1;
  // In a linear the channel is the last dimension, so the shapes agree only for [N, C].
  const bool fits = layer != nullptr &&
                    (layer->op == "conv2d" || (layer->op == "linear" && r.out.value(x).shape.size() == 2)) &&
                    r.out.is_constant(layer->inputs[1]);
  if (!single || !fits) {
    const size_t rank = r.out.value(x).shape.size();
    const ValueId s = channel_constant(r, bn.name + ".scale", a.scale, rank);
    const ValueId t = channel_constant(r, bn.name + ".shift", a.shift, rank);
    const ValueId product = r.emit("mul", {x, s}, {}, bn, ".product");
    r.alias(bn.output, r.emit("add", {product, t}, {}, bn, ""));
    return;
  }
  const Tensor* bias = layer->has_input(2) ? r.out.value(layer->inputs[2]).constant.get() : nullptr;
  const ValueId w = r.constant(layer->name + ".weight", scaled_weight(*r.out.value(layer->inputs[1]).constant, a));
  const ValueId b = r.constant(layer->name + ".bias", scaled_bias(bias, a));
  layer->inputs.resize(3, kNone);
  layer->inputs[1] = w;
  layer->inputs[2] = b;
  r.alias(bn.output, x);
}

}  // namespace

Graph pass_fold_batch_norm(const Graph& graph, const Evaluator&) {
  Rewriter r(graph);
  for (const Node& node : graph.nodes) {
    bool constant = node.op == "batch_norm";
    for (size_t i = 1; constant && i < 5; ++i) constant = graph.is_constant(node.inputs[i]);
    if (constant)
      fold(r, node);
    else
      r.copy(node);
  }
  return r.finish();
}

}  // namespace taille
