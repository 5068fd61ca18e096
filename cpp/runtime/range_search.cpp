#include "runtime/range_search.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace taille {

namespace {

constexpr int kSteps = 96;           // candidates on each walk
constexpr double kNarrowest = 0.04;  // of what was seen

size_t bin_of(const Histogram& h, double x) {
  const double at = std::floor((x + h.reach) / h.width());
  return static_cast<size_t>(std::clamp(at, 0.0, static_cast<double>(h.bins.size() - 1)));
}

// The candidate of least cost on the walk that `at(share)` describes, share from 1 down to kNarrowest.
template <class Candidate>
Range walk(const Histogram& h, Range best, double (*cost)(const Histogram&, Range), const Candidate& at) {
  double least = cost(h, best);
  for (int i = 1; i <= kSteps; ++i) {
    const Range range = at(1 - (1 - kNarrowest) * i / kSteps);
    const double c = cost(h, range);
    if (c < least) {
      least = c;
      best = range;
    }
  }
  return best;
}

}  // namespace

double quantization_error(const Histogram& h, Range range) {
  const Quant q = quant_of(range);
  double sum = 0, count = 0;
  for (size_t b = 0; b < h.bins.size(); ++b) {
    if (h.bins[b] == 0) continue;
    const double x = h.centre(b), n = static_cast<double>(h.bins[b]);
    const double step = std::clamp(std::nearbyint(x / q.scale) + q.zero_point, 0.0, 255.0);
    const double error = x - (step - q.zero_point) * q.scale;
    // Values spread over a bin: the part of the error that its centre does not show.
    sum += n * (error * error + h.width() * h.width() / 12);
    count += n;
  }
  return count > 0 ? sum / count : 0;
}

double quantization_divergence(const Histogram& h, Range range) {
  const size_t first = bin_of(h, range.lo), last = bin_of(h, range.hi), n = last - first + 1;
  std::vector<double> p(n);
  double total = 0;
  for (size_t b = 0; b < h.bins.size(); ++b) {
    p[std::clamp(b, first, last) - first] += static_cast<double>(h.bins[b]);
    total += static_cast<double>(h.bins[b]);
  }
  if (total == 0) return 0;
  // The quantised distribution: the unclipped counts of each step, spread over the bins that hold any.
  std::vector<double> q(n);
  double kept = 0;
  for (size_t step = 0; step < 256; ++step) {
    const size_t begin = n * step / 256, end = n * (step + 1) / 256;
    double sum = 0, filled = 0;
    for (size_t i = begin; i < end; ++i) {
      sum += static_cast<double>(h.bins[first + i]);
      filled += h.bins[first + i] > 0;
    }
    for (size_t i = begin; i < end; ++i)
      if (h.bins[first + i] > 0) q[i] = sum / filled;
    kept += sum;
  }
  double divergence = 0;
  for (size_t i = 0; i < n; ++i) {
    if (p[i] == 0) continue;
    const double pi = p[i] / total, qi = kept > 0 ? q[i] / kept : 0;
    divergence += pi * std::log(pi / std::max(qi, 1e-10));
  }
  return divergence;
}

Range least_range(const Histogram& h, Range seen, double (*cost)(const Histogram&, Range)) {
  const Range whole{std::min(seen.lo, 0.0f), std::max(seen.hi, 0.0f)};
  auto share = [](float v, double s) { return static_cast<float>(v * s); };
  Range best = walk(h, whole, cost, [&](double s) { return Range{share(whole.lo, s), share(whole.hi, s)}; });
  if (whole.lo == 0 || whole.hi == 0) return best;
  const Range both = best;
  best = walk(h, best, cost, [&](double s) { return Range{both.lo, share(both.hi, s)}; });
  const Range upper = best;
  return walk(h, best, cost, [&](double s) { return Range{share(upper.lo, s), upper.hi}; });
}

}  // namespace taille
