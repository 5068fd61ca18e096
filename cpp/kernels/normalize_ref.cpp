// Plain specifications in double.
#include <cmath>

#include "kernels/normalize.h"
#include "kernels/scalar_u8.h"

namespace taille {

void softmax_reference(const SoftmaxArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r) {
    const float* x = g.x + r * g.n;
    double top = -HUGE_VAL;
    double sum = 0;
    for (int64_t i = 0; i < g.n; ++i)
      if (x[i] > top) top = x[i];
    if (top == -HUGE_VAL) top = 0;
    for (int64_t i = 0; i < g.n; ++i) sum += std::exp(x[i] - top);
    for (int64_t i = 0; i < g.n; ++i)
      g.out[r * g.n + i] = static_cast<float>(sum == 0 ? 0 : std::exp(x[i] - top) / sum);
  }
}

static void norm_reference(const NormArgs& g, bool centred) {
  for (int64_t r = 0; r < g.rows; ++r) {
    const float* x = g.x + r * g.n;
    const double n = static_cast<double>(g.n);
    double mean = 0;
    double variance = 0;
    for (int64_t i = 0; i < g.n && centred; ++i) mean += x[i] / n;
    for (int64_t i = 0; i < g.n; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
    const double scale = 1 / std::sqrt(variance + static_cast<double>(g.epsilon));
    for (int64_t i = 0; i < g.n; ++i) {
      const double v = (x[i] - mean) * scale;
      const auto y = static_cast<float>(v * (g.gamma ? g.gamma[i] : 1) + (centred && g.beta ? g.beta[i] : 0));
      if (g.out_u8)
        g.out_u8[r * g.n + i] = round_u8(std::fma(y, g.inverse_scale, g.zero_point), 0.0f, 255.0f);
      else
        g.out[r * g.n + i] = y;
    }
  }
}

void layer_norm_reference(const NormArgs& g) { norm_reference(g, true); }
void rms_norm_reference(const NormArgs& g) { norm_reference(g, false); }

void mean_rows_reference(const MeanRowsArgs& g) {
  for (int64_t c = 0; c < g.n; ++c) {
    double sum = 0;
    for (int64_t r = 0; r < g.rows; ++r) sum += g.x[r * g.stride + c];
    g.out[c] = static_cast<float>(sum / g.divisor);
  }
}

void mean_last_reference(const MeanLastArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < g.n; ++i) sum += g.x[r * g.n + i];
    g.out[r] = static_cast<float>(sum / g.divisor);
  }
}

}  // namespace taille
