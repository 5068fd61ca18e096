#include "runtime/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kernels/quantize.h"

namespace taille {

int64_t TensorStatistics::observe(const float* x, int64_t n, Isa isa) {
  if (n == 0) return 0;
  float lo = std::numeric_limits<float>::infinity(), hi = -lo;
  int64_t bad = 0;
  select_kernel(observe_table(), isa).run({x, n, &lo, &hi, &bad});
  bad_ += bad;
  if (bad > 0) return bad;
  lo_ = count_ ? std::min(lo_, lo) : lo;
  hi_ = count_ ? std::max(hi_, hi) : hi;
  count_ += n;
  const double most = std::max(std::abs(static_cast<double>(lo)), std::abs(static_cast<double>(hi)));
  if (bins_.empty()) {
    bins_.assign(kBins, 0);
    reach_ = std::exp2(std::ceil(std::log2(std::max(most, 1e-30))));
  }
  if (most > reach_) widen(most);
  const auto width = 2 * reach_ / kBins;
  select_kernel(histogram_table(), isa)
      .run({x, n, static_cast<float>(-reach_), static_cast<float>(1 / width), kBins, bins_.data()});
  return 0;
}

void TensorStatistics::widen(double reach) {
  while (reach_ < reach) {
    std::vector<int64_t> merged(kBins, 0);
    for (int64_t b = 0; b < kBins; ++b) merged[static_cast<size_t>(b / 2 + kBins / 4)] += bins_[static_cast<size_t>(b)];
    bins_ = std::move(merged);
    reach_ *= 2;
  }
}

Range TensorStatistics::percentile(double percentile) const {
  const auto cut = static_cast<int64_t>(static_cast<double>(count_) * (1 - percentile / 100));
  const double width = 2 * reach_ / kBins;
  int64_t seen = 0, low = 0, high = kBins - 1;
  while (low < high && seen + bins_[static_cast<size_t>(low)] <= cut) seen += bins_[static_cast<size_t>(low++)];
  seen = 0;
  while (high > low && seen + bins_[static_cast<size_t>(high)] <= cut) seen += bins_[static_cast<size_t>(high--)];
  const double lo = -reach_ + static_cast<double>(low) * width, hi = -reach_ + static_cast<double>(high + 1) * width;
  // Never wider than what was seen.
  return {std::max(lo_, static_cast<float>(lo)), std::min(hi_, static_cast<float>(hi))};
}

Range TensorStatistics::least(double (*cost)(const Histogram&, Range)) const {
  return least_range({bins_, reach_}, minmax(), cost);
}

Calibrator::Calibrator(Graph graph, int threads, Isa isa)
    : model_(std::move(graph), threads, isa, true), statistics_(model_.graph().values.size()) {
  find_linear_inputs();
}

void Calibrator::find_linear_inputs() {
  const Graph& g = model_.graph();
  const std::vector<int32_t> producers = g.producers();
  for (const Node& node : g.nodes) {
    if (node.op != "linear") continue;
    ValueId written = node.inputs[0];
    const auto view = [&] {
      const int32_t n = producers[static_cast<size_t>(written)];
      return n >= 0 && g.nodes[static_cast<size_t>(n)].op == "reshape" ? &g.nodes[static_cast<size_t>(n)] : nullptr;
    };
    while (const Node* reshape = view()) written = reshape->inputs[0];
    const auto channels = static_cast<size_t>(g.value(node.inputs[1]).constant->dims[1]);
    const bool known = std::any_of(linear_inputs_.begin(), linear_inputs_.end(),
                                   [&](const LinearInput& i) { return i.value == node.inputs[0]; });
    if (!known) linear_inputs_.push_back({node.inputs[0], written, std::vector<float>(channels, 0)});
  }
}

void Calibrator::observe_channels(ValueId id, const float* x, int64_t n) {
  for (LinearInput& input : linear_inputs_) {
    if (input.written != id) continue;
    const auto channels = static_cast<int64_t>(input.maxima.size());
    for (int64_t row = 0; row + channels <= n; row += channels)
      for (int64_t c = 0; c < channels; ++c)
        input.maxima[static_cast<size_t>(c)] = std::max(input.maxima[static_cast<size_t>(c)], std::abs(x[row + c]));
  }
}

ChannelMaxima Calibrator::channel_maxima() const {
  check(batches_ > 0, "the calibration data is empty");
  ChannelMaxima maxima;
  for (const LinearInput& input : linear_inputs_) maxima[model_.graph().value(input.value).name] = input.maxima;
  return maxima;
}

void Calibrator::run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs) {
  const Graph& g = model_.graph();
  auto observe = [&](ValueId id, const void* data) -> int64_t {
    const auto at = static_cast<size_t>(id);
    if (g.values[at].dtype != DType::f32) return 0;
    const auto* x = static_cast<const float*>(data);
    const int64_t n = product(plan.dims[at]);
    observe_channels(id, x, n);
    return statistics_[at].observe(x, n, model_.isa());
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t bad = observe(g.inputs[i], inputs[i]);
    check(bad == 0, "calibration: '", g.value(g.inputs[i]).name, "' has ", bad, " values that are NaN or infinite");
  }
  model_.run(plan, inputs, outputs,
             [&](const Step& step, double, const void* out) { observe(g.nodes[step.node].output, out); });
  ++batches_;
}

Ranges Calibrator::ranges(const std::string& method, double percentile) const {
  const auto pick = [&](const TensorStatistics& s) {
    if (method == "percentile") return s.percentile(percentile);
    if (method == "entropy") return s.least(quantization_divergence);
    return method == "mse" ? s.least(quantization_error) : s.minmax();
  };
  check(method == "minmax" || method == "percentile" || method == "entropy" || method == "mse", "calibrator '", method,
        "'; wanted minmax, percentile, entropy or mse");
  check(percentile > 50 && percentile <= 100, "percentile ", percentile, " is outside (50, 100]");
  check(batches_ > 0, "the calibration data is empty");
  const Graph& g = model_.graph();
  Ranges ranges;
  auto put = [&](ValueId id, const TensorStatistics& s) {
    if (s.has_range()) ranges[g.value(id).name] = pick(s);
  };
  for (ValueId i : g.inputs) put(i, statistics_[static_cast<size_t>(i)]);
  for (const Node& node : g.nodes) {
    // A reshape is a view, not a step: it has its input's range.
    auto from = node.op == "reshape" ? ranges.find(g.value(node.inputs[0]).name) : ranges.end();
    if (from != ranges.end())
      ranges[node.name] = from->second;
    else
      put(node.output, statistics_[static_cast<size_t>(node.output)]);
  }
  return ranges;
}

}  // namespace taille
