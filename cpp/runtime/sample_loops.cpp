#include "runtime/sample_loops.h"

#include <algorithm>
#include <set>
#include <string>

#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kCache = 1 << 20;  // bytes of a batch's activations at one layer that stay in L2

const std::set<std::string, std::less<>> kElementwise = {
    "quantize", "dequantize", "lookup",  "add",  "sub",  "mul",       "div", "clamp",     "neg",        "abs",
    "exp",      "tanh",       "sigmoid", "silu", "gelu", "gelu_tanh", "erf", "hardswish", "hardsigmoid"};
const std::set<std::string, std::less<>> kWindows = {"conv2d", "max_pool2d", "avg_pool2d"};

class Finder {
 public:
  Finder(const Graph& g, const std::vector<Dims>& dims) : g_(g), dims_(dims) {}

  std::vector<SampleLoop> run() const {
    std::vector<SampleLoop> loops;
    for (size_t n = 0; n < g_.nodes.size(); ++n) {
      const Node& node = g_.nodes[n];
      if (!by_sample(node) || !pays(node)) continue;
      const int64_t samples = dims(node.output)[0];
      if (!loops.empty() && loops.back().last == n && loops.back().samples == samples)
        loops.back().last = n + 1;
      else
        loops.push_back({n, n + 1, samples});
    }
    std::erase_if(loops, [](const SampleLoop& l) { return l.last - l.first < 2; });  // nothing stays between layers
    return loops;
  }

 private:
  const Graph& g_;
  const std::vector<Dims>& dims_;

  const Dims& dims(ValueId v) const { return dims_[static_cast<size_t>(v)]; }
  int64_t bytes(ValueId v) const { return product(dims(v)) * static_cast<int64_t>(size_of(g_.value(v).dtype)); }

  // Whether the leading dimension counts samples that the node treats each by itself.
  bool by_sample(const Node& node) const {
    const Dims& out = dims(node.output);
    if (out.size() < 2 || out[0] < 2) return false;
    for (ValueId i : node.inputs)
      if (i != kNone && !g_.is_constant(i) && (dims(i).size() != out.size() || dims(i)[0] != out[0])) return false;
    if (kWindows.contains(node.op)) return node.attr<std::string>("layout") == "nhwc";
    if (node.op == "permute") return node.attr<std::vector<int64_t>>("axes")[0] == 0;
    if (node.op == "concat") return axis_of(node, out.size()) != 0;
    if (!kElementwise.contains(node.op)) return false;
    return std::ranges::all_of(node.inputs, [&](ValueId i) {
      return i == kNone || !g_.is_constant(i) || dims(i).size() < out.size() || dims(i)[0] == 1;
    });
  }

  bool pays(const Node& node) const {
    int64_t activations = bytes(node.output), weights = 0;
    for (ValueId i : node.inputs)
      if (i != kNone) (g_.is_constant(i) ? weights : activations) += bytes(i);
    return activations > kCache && weights <= activations / dims(node.output)[0];
  }
};

}  // namespace

std::vector<SampleLoop> find_sample_loops(const Graph& graph, const std::vector<Dims>& dims) {
  return Finder(graph, dims).run();
}

}  // namespace taille
