#include "graph/correct_bias.h"

#include <algorithm>

#include "base/error.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

bool is_int8_layer(const Graph& g, const Node& node) {
  return (node.op == "linear" || node.op == "conv2d") && g.value(node.inputs[1]).dtype == DType::s8;
}

TensorPtr corrected(const Tensor* bias, const std::vector<float>& error) {
  auto out = std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{static_cast<int64_t>(error.size())});
  for (size_t c = 0; c < error.size(); ++c) out->as<float>()[c] = (bias ? bias->as<float>()[c] : 0) - error[c];
  return out;
}

}  // namespace

Graph correct_bias(const Graph& quantized, const MeanErrors& errors) {
  for (const auto& [name, error] : errors)
    check(std::any_of(quantized.nodes.begin(), quantized.nodes.end(),
                      [&](const Node& n) { return n.name == name && is_int8_layer(quantized, n); }),
          "the graph has no int8 layer '", name, "'");
  Rewriter r(quantized);
  for (const Node& node : quantized.nodes) {
    const auto error = errors.find(node.name);
    if (error == errors.end()) {
      r.copy(node);
      continue;
    }
    const int64_t channels = quantized.value(node.inputs[1]).constant->dims[0];
    check(static_cast<int64_t>(error->second.size()) == channels, "'", node.name, "' has ", channels, " channels; ",
          error->second.size(), " mean errors were given");
    const Tensor* bias = node.has_input(2) ? quantized.value(node.inputs[2]).constant.get() : nullptr;
    std::vector<ValueId> inputs;
    for (ValueId i : node.inputs) inputs.push_back(r.map(i));
    inputs[2] = r.constant(node.name + ".corrected_bias", corrected(bias, error->second));
    r.alias(node.output, r.emit(node.op, std::move(inputs), node.attrs, node, "", quantized.value(node.output).quant));
  }
  return r.finish();
}

}  // namespace taille
