#include <cmath>

#include "kernels/quantize.h"
#include "kernels/scalar_u8.h"

namespace taille {

void quantize_reference(const QuantizeArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) g.out[i] = round_u8(std::fma(g.x[i], g.inverse_scale, g.zero_point), 0.0f, 255.0f);
}

void dequantize_reference(const DequantizeArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) g.out[i] = static_cast<float>(g.x[i] - g.zero_point) * g.scale;
}

void add_u8_reference(const AddU8Args& g) {
  for (int64_t i = 0; i < g.n; ++i) {
    float v = std::fma(static_cast<float>(g.a[i]), g.a_scale, g.bias);
    if (g.b) v = std::fma(static_cast<float>(g.b[i]), g.b_scale, v);
    g.out[i] = round_u8(v, g.lo, g.hi);
  }
}

void lookup_reference(const LookupArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) g.out[i] = g.table[g.a[i]];
}

void observe_reference(const ObserveArgs& g) {
  float low = *g.minimum, high = *g.maximum;
  for (int64_t i = 0; i < g.n; ++i) {
    const float x = g.x[i];
    if (!std::isfinite(x)) {
      ++*g.bad;
      continue;
    }
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  *g.minimum = low + 0.0f;  // -0 becomes 0, so that the order does not matter
  *g.maximum = high + 0.0f;
}

void histogram_reference(const HistogramArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) {
    const float x = g.x[i];
    if (!std::isfinite(x)) continue;
    ++g.counts[static_cast<int64_t>(clamp((x - g.first) * g.inverse_width, 0.0f, static_cast<float>(g.bins - 1)))];
  }
}

}  // namespace taille
