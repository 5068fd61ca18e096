#include "runtime/quantization_error.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "base/error.h"

namespace taille {

double ErrorEnergy::sqnr_db() const {
  return noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
}

LayerErrors::LayerErrors(const Graph& exact, const Graph& quantized, int threads, Isa isa)
    : LayerErrors(probe_layers(exact, quantized), threads, isa) {}

LayerErrors::LayerErrors(ProbedGraph probed, int threads, Isa isa)
    : probes_(std::move(probed.probes)), sums_(probes_.size()), model_(std::move(probed.graph), threads, isa, true) {
  for (size_t p = 0; p < probes_.size(); ++p) {
    exact_[probes_[p].exact] = p;
    error_[probes_[p].error] = p;
    const Shape& shape = model_.graph().value(model_.graph().nodes[probes_[p].error].output).shape;
    sums_[p].error.resize(static_cast<size_t>(shape.back().constant()));
    sums_[p].square.resize(sums_[p].error.size());
  }
}

void LayerErrors::run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs) {
  const Graph& g = model_.graph();
  model_.run(plan, inputs, outputs, [&](const Step& step, double, const void* out) {
    const auto* x = static_cast<const float*>(out);
    const int64_t count = product(plan.dims[static_cast<size_t>(g.nodes[step.node].output)]);
    if (const auto exact = exact_.find(step.node); exact != exact_.end()) {
      double& signal = sums_[exact->second].energy.signal;
      for (int64_t i = 0; i < count; ++i) signal += static_cast<double>(x[i]) * x[i];
    }
    if (const auto error = error_.find(step.node); error != error_.end()) {
      Sums& sums = sums_[error->second];
      const auto channels = static_cast<int64_t>(sums.error.size());
      for (int64_t i = 0; i < count; ++i) {
        const auto c = static_cast<size_t>(i % channels);
        const double e = x[i];
        sums.error[c] += e;
        sums.square[c] += e * e;
        sums.energy.noise += e * e;
      }
      sums.rows += count / channels;
    }
  });
}

std::vector<LayerErrors::Layer> LayerErrors::layers() const {
  std::vector<Layer> layers;
  for (size_t p = 0; p < probes_.size(); ++p) {
    const Sums& sums = sums_[p];
    check(sums.rows > 0, "no data was run through '", probes_[p].layer, "'");
    const auto rows = static_cast<double>(sums.rows);
    Layer layer{probes_[p].layer, {}, sums.energy.sqnr_db()};
    for (size_t c = 0; probes_[p].has_bias && c < sums.error.size(); ++c) {
      const double mean = sums.error[c] / rows;
      const bool systematic = mean * mean >= kSystematic * sums.square[c] / rows;
      layer.mean_error.push_back(systematic ? static_cast<float>(mean) : 0.0f);
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

NetworkErrors::NetworkErrors(const Graph& exact, const Graph& quantized, int threads, Isa isa)
    : exact_(exact, threads, isa, true), quantized_(quantized, threads, isa, true) {
  std::set<std::string> names;
  for (const Node& node : exact.nodes)
    if (node.op != "reshape" && exact.value(node.output).dtype == DType::f32) names.insert(node.name);
  for (const Node& node : quantized.nodes)
    if (node.op != "reshape" && names.contains(node.name)) energy_[node.name];
}

void NetworkErrors::run(std::span<const InputArray> inputs, std::span<const void* const> pointers,
                        std::span<void* const> outputs) {
  std::map<std::string, std::vector<float>> wanted;
  const auto exact_plan = exact_.plan_for(inputs);
  exact_.run(*exact_plan, pointers, outputs, [&](const Step& step, double, const void* out) {
    const Node& node = exact_.graph().nodes[step.node];
    if (!energy_.contains(node.name)) return;
    const int64_t count = product(exact_plan->dims[static_cast<size_t>(node.output)]);
    const auto* x = static_cast<const float*>(out);
    wanted[node.name].assign(x, x + count);
  });
  const auto plan = quantized_.plan_for(inputs);
  quantized_.run(*plan, pointers, outputs, [&](const Step& step, double, const void* out) {
    const Node& node = quantized_.graph().nodes[step.node];
    const auto it = wanted.find(node.name);
    if (it == wanted.end()) return;
    const Value& value = quantized_.graph().value(node.output);
    const std::vector<float>& exact = it->second;
    const bool bytes = value.dtype == DType::u8;
    ErrorEnergy& energy = energy_[node.name];
    for (size_t i = 0; i < exact.size(); ++i) {
      const double x = exact[i];
      const double y = bytes ? (static_cast<const uint8_t*>(out)[i] - value.quant->zero_point) *
                                   static_cast<double>(value.quant->scale)
                             : static_cast<double>(static_cast<const float*>(out)[i]);
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      energy.signal += x * x;
      energy.noise += (y - x) * (y - x);
    }
  });
}

std::map<std::string, double> NetworkErrors::sqnr_db() const {
  std::map<std::string, double> out;
  for (const auto& [name, energy] : energy_)
    if (energy.signal > 0) out[name] = energy.sqnr_db();
  return out;
}

}  // namespace taille
