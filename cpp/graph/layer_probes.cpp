#include "graph/layer_probes.h"

#include <limits>
#include <map>
#include <utility>

#include "graph/rewrite.h"

namespace taille {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

class Prober {
 public:
  Prober(const Graph& exact, const Graph& quantized) : r_(exact), quantized_(quantized) {
    for (const Node& node : quantized.nodes)
      if ((node.op == "linear" || node.op == "conv2d") && quantized.value(node.inputs[1]).dtype == DType::s8)
        twins_[node.name] = &node;
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
    Attrs attrs = node.attrs;
    attrs["lo"] = -kInf;
    attrs["hi"] = kInf;
    const ValueId x = r_.map(node.inputs[0]), bias = node.has_input(2) ? r_.map(node.inputs[2]) : kNone;
    const bool bare = !node.has_input(3) && node.attr<double>("lo") == -kInf && node.attr<double>("hi") == kInf;
    const ValueId exact =
        bare ? r_.map(node.output) : r_.emit(node.op, {x, r_.map(node.inputs[1]), bias}, attrs, node, ".exact");
    const auto exact_node = static_cast<size_t>(r_.producer(exact) - r_.out.nodes.data());
    const auto constant = [&](size_t i) {
      const Value& v = quantized_.value(twin.inputs[i]);
      return r_.constant(v.name, v.constant);
    };
    const ValueId bytes = r_.emit("quantize", {x}, {}, node, ".quantize", quantized_.value(twin.inputs[0]).quant);
    const ValueId int8 =
        r_.emit(node.op, {bytes, constant(1), twin.has_input(2) ? constant(2) : kNone, kNone, constant(4)}, attrs, node,
                ".int8");
    r_.emit("sub", {int8, exact}, {}, node, ".error");
    probes_.push_back({node.name, exact_node, r_.out.nodes.size() - 1});
  }
};

}  // namespace

ProbedGraph probe_layers(const Graph& exact, const Graph& quantized) { return Prober(exact, quantized).run(); }

}  // namespace taille
