#include "graph/quantize_weight.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace taille {

namespace {

constexpr int kLeastPercent = 40;

// Sum of (w - q scale)^2 over a channel, or something above `least` where the sum is that. The rounding is an addition
// that pushes the fraction out of the mantissa (round half even, |v| < 2^22), and the lanes are independent sums: both
// so that the compiler can use vectors.
double squared_error(const float* w, int64_t n, float scale, double least) {
  constexpr int64_t kLanes = 8, kStride = 512;  // elements between looks at the sum
  constexpr float kRound = 12582912.0f;         // 1.5 * 2^23
  const float inverse = 1 / scale;
  float lanes[kLanes] = {};
  const auto error = [&](float x) {
    const float v = std::min(std::max(x * inverse, -127.0f), 127.0f);
    const float d = x - ((v + kRound) - kRound) * scale;
    return d * d;
  };
  int64_t i = 0;
  const auto total = [&] {
    double sum = 0;
    for (float lane : lanes) sum += static_cast<double>(lane);
    return sum;
  };
  while (i + kLanes <= n) {
    for (const int64_t end = std::min(n - kLanes, i + kStride); i <= end; i += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += error(w[i + l]);
    if (total() > least) return total();  // sums of squares only grow
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(error(w[i]));
  for (float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

float channel_scale(const float* w, int64_t n, WeightClipping clipping) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(w[i]));
  const float whole = most / 127;
  // Below the least normal number its inverse would overflow.
  if (!(whole >= std::numeric_limits<float>::min())) return 1;
  if (clipping == WeightClipping::none) return whole;
  float best = whole;
  double least = squared_error(w, n, whole, std::numeric_limits<double>::infinity());
  for (int percent = 99; percent >= kLeastPercent; --percent) {
    const float scale = whole * static_cast<float>(percent) / 100;
    const double error = squared_error(w, n, scale, least);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace

WeightClipping clipping_from_name(const std::string& name) {
  check(name == "none" || name == "mse", "weight clipping '", name, "'; wanted none or mse");
  return name == "mse" ? WeightClipping::mse : WeightClipping::none;
}

QuantizedWeight quantize_weight(const Tensor& weight, WeightClipping clipping) {
  const int64_t channels = weight.dims[0], size = weight.count() / std::max<int64_t>(1, channels);
  QuantizedWeight q{std::make_shared<Tensor>(DType::s8, weight.dims),
                    std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{channels}), 0};
  double signal = 0, noise = 0;
  for (int64_t n = 0; n < channels; ++n) {
    const float* w = weight.as<float>() + n * size;
    const float scale = channel_scale(w, size, clipping);
    q.scale->as<float>()[n] = scale;
    for (int64_t i = 0; i < size; ++i) {
      const float v = std::clamp(std::nearbyint(w[i] / scale), -127.0f, 127.0f);
      q.values->as<int8_t>()[n * size + i] = static_cast<int8_t>(v);
      const double error = static_cast<double>(w[i]) - static_cast<double>(v) * scale;
      signal += static_cast<double>(w[i]) * w[i];
      noise += error * error;
    }
  }
  q.sqnr_db = noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
  return q;
}

const QuantizedWeight& QuantizedWeights::of(const TensorPtr& weight, WeightClipping clipping) {
  const auto [it, absent] = known_.try_emplace({weight, clipping});
  if (absent) it->second = quantize_weight(*weight, clipping);
  return it->second;
}

}  // namespace taille
