#include "graph/layer_probes.h"

#include <map>
#include <utility>

#include "graph/rewrite.h"

namespace taille {

namespace {

class Prober {
 public:
  Prober(const Graph& exact, const Graph& quantized) : r_(exact), quantized_(quantized) {
    for (const Node& node : quantized.nodes) {
      const bool layer = node.op == "linear" || node.op == "conv2d" || node.op == "sdpa";
      if (layer && quantized.value(node.inputs[0]).dtype == DType::u8) twins_[node.name] = &node;
    }
  }

  ProbedGraph run() {
    for (const Node& node : r_.from.nodes) {
      r_.copy(node);
      const auto twin = twins_.find(node.name);
      if (twin != twins_.end()) probe(node, *twin->second);
    }
    for (size_t i = 0; i < r_.from.outputs.size(); ++i)
      r_.out.add_output(r_.from.output_names[i], r_.map(r_.from.outputs[i]));
    return {std::move(r_.out), std::move(probes_)};  // not finish(): nothing reads the probes, and they must stay
  }

 private:
  Rewriter r_;
  const Graph& quantized_;
  std::map<std::string, const Node*> twins_;
  std::vector<LayerProbe> probes_;

  void probe(const Node& node, const Node& twin) {
    const bool attention = node.op == "sdpa";
    Attrs attrs = node.attrs;
    if (!attention) {
      attrs["lo"] = -kNoLimit;
      attrs["hi"] = kNoLimit;
    }
    const bool bare = attrs == node.attrs && (attention || !node.has_input(3));
    std::vector<ValueId> inputs;
    for (size_t i = 0; i < node.inputs.size() && (attention || i < 3); ++i) inputs.push_back(r_.map(node.inputs[i]));
    const ValueId exact = bare ? r_.map(node.output) : r_.emit(node.op, inputs, attrs, node, ".exact");
    const auto exact_node = static_cast<size_t>(r_.producer(exact) - r_.out.nodes.data());
    if (attention)
      for (size_t i = 0; i < 3; ++i) inputs[i] = bytes(node, twin, i);
    else
      inputs = {bytes(node, twin, 0), constant(twin, 1), constant(twin, 2), kNone, constant(twin, 4)};
    const ValueId int8 = r_.emit(node.op, std::move(inputs), std::move(attrs), node, ".int8");
    r_.emit("sub", {int8, exact}, {}, node, ".error");
    probes_.push_back({node.name, exact_node, r_.out.nodes.size() - 1, !attention});
  }

  // An input in bytes, as the twin takes it.
  ValueId bytes(const Node& node, const Node& twin, size_t i) {
    return r_.emit("quantize", {r_.map(node.inputs[i])}, {}, node, ".quantize", quantized_.value(twin.inputs[i]).quant);
  }

  ValueId constant(const Node& twin, size_t i) {
    if (!twin.has_input(i)) return kNone;
    const Value& v = quantized_.value(twin.inputs[i]);
    return r_.constant(v.name, v.constant);
  }
};

}  // namespace

ProbedGraph probe_layers(const Graph& exact, const Graph& quantized) { return Prober(exact, quantized).run(); }

}  // namespace taille
