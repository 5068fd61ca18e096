// Softmax, LayerNorm and means over V16. Several rows go at once where a row alone would wait for its own sums; the
// arithmetic of one row does not depend on that. Include after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/normalize.h"
#include "kernels/vec16_math.h"

namespace {

inline float row_max(const float* x, int64_t n) {
  const V16 lowest = splat(-kInfinity);
  V16 m = lowest;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) m = max(m, load(x + i));
  if (i < n) m = max(m, load_n(x + i, n - i, lowest));
  return reduce_max(m);
}

// out = exp(x - max x); returns the factor that makes it sum to 1, or 0 for a row of -inf. A NaN makes it NaN.
inline float exp_row(const float* x, int64_t n, float* out) {
  const float top = row_max(x, n);
  const V16 shift = splat(top == -kInfinity ? 0.0f : top);  // -inf - -inf would be NaN
  V16 sum = splat(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V16 e = exp_nonpositive(load(x + i) - shift);
    sum = sum + e;
    store(out + i, e);
  }
  if (i < n) {
    const V16 e = exp_nonpositive(load_n(x + i, n - i, splat(-kInfinity)) - shift);
    sum = sum + e;
    store_n(out + i, e, n - i);
  }
  const float total = reduce_add(sum);
  return total == 0.0f ? 0.0f : 1.0f / total;
}

inline void softmax_run(const taille::SoftmaxArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r) {
    float* out = g.out + r * g.n;
    const V16 factor = splat(exp_row(g.x + r * g.n, g.n, out));
    int64_t i = 0;
    for (; i + 16 <= g.n; i += 16) store(out + i, load(out + i) * factor);
    if (i < g.n) store_n(out + i, load_n(out + i, g.n - i, factor) * factor, g.n - i);
  }
}

// R rows from row r on
template <int R>
inline void layer_norm_rows(const taille::LayerNormArgs& g, int64_t r) {
  const float* x = g.x + r * g.n;
  float* out = g.out + r * g.n;
  const V16 zero = splat(0.0f);
  const V16 one = splat(1.0f);
  const float n = static_cast<float>(g.n);
  V16 sum[R], mean[R], scale[R];
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) sum[j] = zero;
  for (int64_t i = 0; i < g.n; i += 16)
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) sum[j] = sum[j] + load_upto(x + j * g.n + i, g.n - i, zero);
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) {
    mean[j] = splat(reduce_add(sum[j]) / n);
    sum[j] = zero;
  }
  for (int64_t i = 0; i < g.n; i += 16)
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
      const V16 d = load_upto(x + j * g.n + i, g.n - i, mean[j]) - mean[j];
      sum[j] = fma(d, d, sum[j]);
    }
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) scale[j] = splat(1.0f / __builtin_sqrtf(reduce_add(sum[j]) / n + g.epsilon));
  for (int64_t i = 0; i < g.n; i += 16) {
    const int64_t left = g.n - i;
    const V16 gamma = g.gamma == nullptr ? one : load_upto(g.gamma + i, left, one);
    const V16 beta = g.beta == nullptr ? zero : load_upto(g.beta + i, left, zero);
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
      const V16 v = (load_upto(x + j * g.n + i, left, zero) - mean[j]) * scale[j];
      store_upto(out + j * g.n + i, fma(v, gamma, beta), left);
    }
  }
}

inline void layer_norm_run(const taille::LayerNormArgs& g) {
  constexpr int kRows = kVectorsLive < 4 ? 1 : 4;
  int64_t r = 0;
  for (; r + kRows <= g.rows; r += kRows) layer_norm_rows<kRows>(g, r);
  for (; r < g.rows; ++r) layer_norm_rows<1>(g, r);
}

template <int U>
inline void mean_columns(const taille::MeanRowsArgs& g, int64_t c, int64_t left) {
  V16 sum[U];
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) sum[u] = splat(0.0f);
  for (int64_t r = 0; r < g.rows; ++r)
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) sum[u] = sum[u] + load_upto(g.x + r * g.stride + c + 16 * u, left - 16 * u, sum[u]);
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) store_upto(g.out + c + 16 * u, sum[u] / splat(g.divisor), left - 16 * u);
}

inline void mean_rows_run(const taille::MeanRowsArgs& g) {
  constexpr int kWide = kVectorsLive < 4 ? 1 : 4;
  int64_t c = 0;
  for (; c + 16 * kWide <= g.n; c += 16 * kWide) mean_columns<kWide>(g, c, 16 * kWide);
  for (; c < g.n; c += 16) mean_columns<1>(g, c, g.n - c);
}

inline void mean_last_run(const taille::MeanLastArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r) {
    V16 sum = splat(0.0f);
    for (int64_t i = 0; i < g.n; i += 16) sum = sum + load_upto(g.x + r * g.n + i, g.n - i, splat(0.0f));
    g.out[r] = reduce_add(sum) / g.divisor;
  }
}

}  // namespace
