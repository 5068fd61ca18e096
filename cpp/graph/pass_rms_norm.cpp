// RMSNorm as models write it by hand, into one node:
//   y = x * rsqrt(mean(x * x, last axis) + epsilon)          rms_norm
//   y * gamma, gamma [n] a constant                          its gamma
#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

class RmsNorm {
 public:
  explicit RmsNorm(const Graph& g) : r_(g), producers_(g.producers()) {}

  Graph run() {
    for (const Node& node : r_.from.nodes)
      if (node.op != "mul" || !(normalise(node, 0) || normalise(node, 1) || scale(node, 0) || scale(node, 1)))
        r_.copy(node);
    return r_.finish();
  }

 private:
  Rewriter r_;
  const std::vector<int32_t> producers_;  // of the old values

  const Node* made_by(ValueId old, const char* op) const {
    const int32_t n = producers_[static_cast<size_t>(old)];
    if (n < 0) return nullptr;
    const Node& node = r_.from.nodes[static_cast<size_t>(n)];
    return node.op == op ? &node : nullptr;
  }

  // Whether `old` is mean(x * x) over the last axis, which stays with the size 1.
  bool is_mean_square(ValueId old, ValueId x) const {
    const Node* mean = made_by(old, "mean");
    const auto last = static_cast<int64_t>(r_.from.value(x).shape.size()) - 1;
    if (!mean || !mean->attr<bool>("keepdim") || mean->attr<std::vector<int64_t>>("axes") != std::vector<int64_t>{last})
      return false;
    const Node* square = made_by(mean->inputs[0], "mul");
    return square && square->inputs[0] == x && square->inputs[1] == x;
  }

  bool normalise(const Node& product, size_t side) {
    const ValueId x = product.inputs[side];
    const Node* root = made_by(product.inputs[1 - side], "rsqrt");
    const Node* sum = root ? made_by(root->inputs[0], "add") : nullptr;
    if (!sum) return false;
    for (size_t i = 0; i < 2; ++i) {
      const Tensor* epsilon = r_.from.value(sum->inputs[i]).constant.get();
      if (!epsilon || epsilon->count() != 1 || !is_mean_square(sum->inputs[1 - i], x)) continue;
      const double value = *epsilon->as<float>();
      if (!(value >= 0)) return false;
      r_.alias(product.output, r_.emit("rms_norm", {r_.map(x)}, {{"epsilon", value}}, product, ""));
      return true;
    }
    return false;
  }

  bool scale(const Node& product, size_t side) {
    const Value& gamma = r_.from.value(product.inputs[side]);
    const ValueId y = product.inputs[1 - side];
    const Shape& shape = r_.from.value(y).shape;
    if (!gamma.constant || shape.empty() || gamma.shape != Shape{shape.back()}) return false;
    Node* norm = r_.producer(r_.map(y));
    if (!norm || norm->op != "rms_norm" || norm->has_input(1) || norm->attr<int64_t>("axes") != 1) return false;
    if (r_.uses[static_cast<size_t>(y)] != 1) return false;
    norm->inputs.resize(2, kNone);
    norm->inputs[1] = r_.map(product.inputs[side]);
    r_.alias(product.output, norm->output);
    return true;
  }
};

}  // namespace

Graph pass_rms_norm(const Graph& graph, const Evaluator&) { return RmsNorm(graph).run(); }

}  // namespace taille
