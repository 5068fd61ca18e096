// Bias, residual and clamp move into the epilogue of the linear or convolution before them:
//   out = clamp(x * w + bias + residual, lo, hi)
#include <cmath>

#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

class Fuse {
 public:
  explicit Fuse(const Graph& g) : r_(g) {}

  Graph run() {
    for (const Node& node : r_.from.nodes) {
      const bool done = (node.op == "matmul" && to_linear(node)) || (node.op == "add" && fuse_add(node)) ||
                        (node.op == "clamp" && fuse_clamp(node));
      if (!done) r_.copy(node);
    }
    return r_.finish();
  }

 private:
  Rewriter r_;

  // The emitted layer behind an old value that nothing else reads and whose epilogue still ends before a clamp.
  Node* open_layer(ValueId old) {
    if (r_.uses[static_cast<size_t>(old)] != 1) return nullptr;
    Node* p = r_.producer(r_.map(old));
    if (!p || (p->op != "linear" && p->op != "conv2d")) return nullptr;
    return p->attr<double>("lo") == -kNoLimit && p->attr<double>("hi") == kNoLimit ? p : nullptr;
  }

  bool to_linear(const Node& node) {
    const Value& b = r_.from.value(node.inputs[1]);
    if (!b.constant || b.shape.size() != 2) return false;
    const ValueId w = r_.constant(node.name + ".weight", permuted(*b.constant, {1, 0}));
    r_.alias(node.output, r_.emit("linear", {r_.map(node.inputs[0]), w}, {}, node, ""));
    return true;
  }

  bool fuse_add(const Node& node) {
    if (r_.from.value(node.output).dtype != DType::f32) return false;
    return fuse_bias(node, 0) || fuse_bias(node, 1) || fuse_residual(node);
  }

  bool fuse_bias(const Node& node, size_t layer_side) {
    const Value& bias = r_.from.value(node.inputs[1 - layer_side]);
    Node* layer = open_layer(node.inputs[layer_side]);
    if (!bias.constant || !layer || layer->op != "linear" || layer->has_input(2) || layer->has_input(3)) return false;
    const Shape& out = r_.from.value(node.output).shape;
    if (bias.shape.size() > out.size() || element_count(bias.shape) != out.back() || bias.shape.empty() ||
        bias.shape.back() != out.back())
      return false;
    const ValueId b = r_.constant(layer->name + ".bias", reshaped(*bias.constant, {bias.constant->count()}));
    layer->inputs.resize(3, kNone);
    layer->inputs[2] = b;
    r_.alias(node.output, layer->output);
    return true;
  }

  // Into the operand that was computed last, so that the other one is ready; else the layer moves behind it.
  bool fuse_residual(const Node& node) {
    const Shape& out = r_.from.value(node.output).shape;
    for (ValueId i : node.inputs)
      if (r_.from.value(i).shape != out) return false;
    if (node.inputs[0] == node.inputs[1]) return false;
    Node* a = open_layer(node.inputs[0]);
    Node* b = open_layer(node.inputs[1]);
    if (a && a->has_input(3)) a = nullptr;
    if (b && b->has_input(3)) b = nullptr;
    if (!a && !b) return false;
    const bool first = b == nullptr || (a != nullptr && a > b);
    Node* layer = first ? a : b;
    const ValueId residual = r_.map(node.inputs[first ? 1 : 0]);
    layer->inputs.resize(4, kNone);
    layer->inputs[3] = residual;
    r_.alias(node.output, layer->output);
    r_.move_last(layer->output);
    return true;
  }

  bool fuse_clamp(const Node& node) {
    Node* layer = open_layer(node.inputs[0]);
    if (!layer) return false;
    layer->attrs["lo"] = node.attr<double>("lo");
    layer->attrs["hi"] = node.attr<double>("hi");
    r_.alias(node.output, layer->output);
    return true;
  }
};

}  // namespace

Graph pass_fuse(const Graph& graph, const Evaluator&) { return Fuse(graph).run(); }

}  // namespace taille
