#include "graph/half.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "graph/ops.h"
#include "graph/rewrite.h"
#include "kernels/half.h"

namespace taille {

namespace {

// The input that can be stored in 16 bits, or -1.
int weight_input(const Graph& g, const Node& node) {
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (reads_weight(node.op, i) && g.is_constant(node.inputs[i]) && g.value(node.inputs[i]).dtype == DType::f32)
      return static_cast<int>(i);
  return -1;
}

std::shared_ptr<Tensor> narrowed(const Tensor& w, DType type) {
  auto out = std::make_shared<Tensor>(type, w.dims);
  select_kernel(narrow_table(), active_isa()).run({w.as<float>(), w.count(), type, out->data.data()});
  return out;
}

std::vector<float> widened(const Tensor& half) {
  std::vector<float> out(static_cast<size_t>(half.count()));
  select_kernel(widen_table(), active_isa()).run({half.data.data(), half.count(), half.dtype, out.data()});
  return out;
}

// Decibels of signal over rounding noise; throws where a finite weight became infinite.
double checked_sqnr(const Tensor& w, const Tensor& half, const std::string& name) {
  const std::vector<float> rounded = widened(half);
  double signal = 0, noise = 0;
  for (size_t i = 0; i < rounded.size(); ++i) {
    const float x = w.as<float>()[i];
    check(std::isfinite(rounded[i]) || !std::isfinite(x), "the tensor '", name, "' holds ", x,
          half.dtype == DType::f16 ? ", beyond float16's largest number, 65504; bfloat16 has float32's range"
                                   : ", beyond bfloat16's largest number");
    const double error = static_cast<double>(x) - rounded[i];
    signal += static_cast<double>(x) * x;
    noise += error * error;
  }
  return noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
}

bool overflows(const Tensor& w, DType type) {
  Tensor most(DType::f32, {1});
  float& value = *most.as<float>();
  for (int64_t i = 0; i < w.count(); ++i)
    if (std::isfinite(w.as<float>()[i])) value = std::max(value, std::abs(w.as<float>()[i]));
  const float narrow = widened(*narrowed(most, type))[0];
  return !std::isfinite(narrow);
}

struct HalfWeight {
  ValueId id;
  double sqnr_db;
};

}  // namespace

std::vector<std::string> half_candidates(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes)
    if (weight_input(graph, node) >= 0) names.push_back(node.name);
  return names;
}

std::vector<std::string> half_overflows(const Graph& graph, DType type) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) {
    const int input = weight_input(graph, node);
    if (input >= 0 && overflows(*graph.value(node.inputs[static_cast<size_t>(input)]).constant, type))
      names.push_back(node.name);
  }
  return names;
}

Graph half_weights(const Graph& graph, DType type, const std::set<std::string>& nodes,
                   std::vector<QuantizeReport>* report) {
  check(is_half(type), "weights are stored as float16 or bfloat16, not as ", name_of(type));
  const std::vector<std::string> candidates = half_candidates(graph);
  for (const std::string& name : nodes)
    check(std::ranges::find(candidates, name) != candidates.end(), "the graph has no node '", name,
          "' with float32 weights that can be stored as ", name_of(type));
  Rewriter r(graph);
  std::map<ValueId, HalfWeight> done;  // a tied weight is stored once
  for (const Node& node : graph.nodes) {
    const int input = weight_input(graph, node);
    if (input < 0) {
      r.copy(node);
      continue;
    }
    QuantizeReport row{};
    row.name = node.name;
    row.op = node.op;
    row.precision = std::string(name_of(nodes.contains(node.name) ? type : DType::f32));
    if (!nodes.contains(node.name)) {
      row.why = "ignored by request";
      r.copy(node);
    } else {
      const ValueId old = node.inputs[static_cast<size_t>(input)];
      if (!done.contains(old)) {
        const Value& v = graph.value(old);
        std::shared_ptr<Tensor> half = narrowed(*v.constant, type);
        const double sqnr_db = checked_sqnr(*v.constant, *half, v.name);
        done[old] = {r.constant(v.name + "." + std::string(name_of(type)), std::move(half)), sqnr_db};
      }
      row.weight_sqnr_db = done[old].sqnr_db;
      std::vector<ValueId> inputs;
      for (size_t i = 0; i < node.inputs.size(); ++i)
        inputs.push_back(static_cast<int>(i) == input ? done[old].id : r.map(node.inputs[i]));
      r.alias(node.output, r.emit(node.op, std::move(inputs), node.attrs, node, "", graph.value(node.output).quant));
    }
    if (report) report->push_back(std::move(row));
  }
  return r.finish();
}

}  // namespace taille
