#include "graph/quantize_weight.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace taille {

namespace {

constexpr int kLeastPercent = 40, kMostPercent = 200;  // of the scale that clips nothing; the latter for pairs
constexpr float kPairLimit = 128;

// An addition that pushes the fraction out of the mantissa: round half even, |v| < 2^22. Compilers use vectors for it.
inline float rounded(float v) { return (v + 12582912.0f) - 12582912.0f; }  // 1.5 * 2^23

inline float clipped(float v) { return std::min(std::max(v, -127.0f), 127.0f); }

struct Pair {
  float first, second;
};

// Two weights in steps, as they are stored: where they add up to too much, half of that is taken off each, as least
// squares has it; the second one is what the first leaves.
inline Pair paired(float a, float b) {
  a = clipped(a), b = clipped(b);
  const float p = rounded(a), q = rounded(b), sum = p + q;
  const float limit = std::copysign(kPairLimit, sum);
  const float first = clipped(rounded(a - 0.5f * (a + b - limit)));
  const bool fits = std::abs(sum) <= kPairLimit;
  return {fits ? p : first, fits ? q : limit - first};
}

// Sum of (w - q scale)^2 over a channel, or something above `least` where the sum is that. The lanes are independent
// sums, so that the compiler can use vectors.
template <bool kPairs>
double squared_error(const float* w, int64_t n, float scale, double least) {
  constexpr int64_t kLanes = 8, kStride = 512;  // elements between looks at the sum
  const float inverse = 1 / scale;
  float lanes[kLanes] = {};
  const auto error = [&](float x, float q) {
    const float d = x - q * scale;
    return d * d;
  };
  int64_t i = 0;
  const auto total = [&] {
    double sum = 0;
    for (float lane : lanes) sum += static_cast<double>(lane);
    return sum;
  };
  while (i + kLanes <= n) {
    for (const int64_t end = std::min(n - kLanes, i + kStride); i <= end; i += kLanes) {
      if constexpr (kPairs) {
        for (int64_t l = 0; l < kLanes; l += 2) {
          const float x = w[i + l], y = w[i + l + 1];
          const Pair q = paired(x * inverse, y * inverse);
          lanes[l] += error(x, q.first);
          lanes[l + 1] += error(y, q.second);
        }
      } else {
        for (int64_t l = 0; l < kLanes; ++l) lanes[l] += error(w[i + l], rounded(clipped(w[i + l] * inverse)));
      }
    }
    if (total() > least) return total();  // sums of squares only grow
  }
  double sum = 0;
  for (; i < n; i += 2) {
    const float x = w[i], y = i + 1 < n ? w[i + 1] : 0.0f;
    const Pair q =
        kPairs ? paired(x * inverse, y * inverse) : Pair{rounded(clipped(x * inverse)), rounded(clipped(y * inverse))};
    sum += static_cast<double>(error(x, q.first)) + static_cast<double>(error(y, q.second));
  }
  for (float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

template <bool kPairs>
float best_scale(const float* w, int64_t n, float whole) {
  float best = whole;
  double least = squared_error<kPairs>(w, n, whole, std::numeric_limits<double>::infinity());
  for (int percent = kPairs ? kMostPercent : 99; percent >= kLeastPercent; --percent) {
    const float scale = whole * static_cast<float>(percent) / 100;
    const double error = squared_error<kPairs>(w, n, scale, least);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

float channel_scale(const float* w, int64_t n, WeightClipping clipping) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(w[i]));
  const float whole = most / 127;
  // Below the least normal number its inverse would overflow.
  if (!(whole >= std::numeric_limits<float>::min())) return 1;
  if (clipping == WeightClipping::none) return whole;
  return clipping == WeightClipping::pairs ? best_scale<true>(w, n, whole) : best_scale<false>(w, n, whole);
}

// A channel's weights in steps of `scale`.
void round_channel(const float* w, int64_t n, float scale, bool pairs, int8_t* q) {
  for (int64_t i = 0; i < n; i += 2) {
    const bool two = i + 1 < n;
    const float x = w[i] / scale, y = two ? w[i + 1] / scale : 0.0f;
    const Pair v = pairs ? paired(x, y) : Pair{rounded(clipped(x)), rounded(clipped(y))};
    q[i] = static_cast<int8_t>(v.first);
    if (two) q[i + 1] = static_cast<int8_t>(v.second);
  }
}

}  // namespace

WeightClipping clipping_from_name(const std::string& name) {
  check(name == "none" || name == "mse" || name == "pairs", "weight clipping '", name, "'; wanted none, mse or pairs");
  return name == "mse" ? WeightClipping::mse : name == "pairs" ? WeightClipping::pairs : WeightClipping::none;
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
    int8_t* values = q.values->as<int8_t>() + n * size;
    round_channel(w, size, scale, clipping == WeightClipping::pairs, values);
    for (int64_t i = 0; i < size; ++i) {
      const double error = static_cast<double>(w[i]) - static_cast<double>(values[i]) * scale;
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
