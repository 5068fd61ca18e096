// Softmax, LayerNorm, RMSNorm and means over V16. Several rows go at once where a row alone would wait for its own
// sums; the arithmetic of one row does not depend on that. Include after one vec16_*.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/normalize.h"
#include "kernels/vec16_math.h"

namespace {

// Four maxima at a time: one alone would wait for itself. (The order cannot show: a NaN spoils the row's sum anyway.)
inline float row_max(const float* x, int64_t n) {
  const V16 lowest = splat(-kInfinity);
  V16 m[4] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64)
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) m[u] = max(m[u], load(x + i + 16 * u));
  for (; i < n; i += 16) m[0] = max(m[0], load_upto(x + i, n - i, lowest));
  return reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
}

// out = exp(x - top); returns the factor that makes it sum to 1, or 0 for a row of -inf. A NaN makes it NaN.
inline float exp_row(const float* x, int64_t n, float top, float* out) {
  const V16 shift = splat(top == -kInfinity ? 0.0f : top);  // -inf - -inf would be NaN
  const V16 lowest = splat(-kInfinity);
  V16 sum = splat(0.0f);
  for_vectors(n, [&](int64_t i, int64_t lanes) {
    const V16 e = exp_nonpositive(load_upto(x + i, lanes, lowest) - shift);
    sum = sum + e;
    store_upto(out + i, e, lanes);
  });
  const float total = reduce_add(sum);
  return total == 0.0f ? 0.0f : 1.0f / total;
}

// One step for several rows, then the next: within a row each waits for the sum or the maximum before it.
inline void softmax_run(const taille::SoftmaxArgs& g) {
  constexpr int64_t kRows = 8;
  float top[kRows];
  float factor[kRows];
  for (int64_t r = 0; r < g.rows; r += kRows) {
    const int64_t rows = g.rows - r < kRows ? g.rows - r : kRows;
    const float* x = g.x + r * g.n;
    float* out = g.out + r * g.n;
    for (int64_t j = 0; j < rows; ++j) top[j] = row_max(x + j * g.n, g.n);
    for (int64_t j = 0; j < rows; ++j) factor[j] = exp_row(x + j * g.n, g.n, top[j], out + j * g.n);
    for (int64_t j = 0; j < rows; ++j) {
      float* y = out + j * g.n;
      const V16 f = splat(factor[j]);
      for_vectors(g.n, [&](int64_t i, int64_t lanes) { store_upto(y + i, load_upto(y + i, lanes, f) * f, lanes); });
    }
  }
}

// Where element i of all rows goes. Bytes are packed from four vectors.
struct FloatOutput {
  static constexpr int kVectors = 1;
  float* out;
  [[gnu::always_inline]] void store(int64_t i, const V16 (&y)[kVectors], int64_t lanes) const {
    store_upto(out + i, y[0], lanes);
  }
};
struct ByteOutput {
  static constexpr int kVectors = 4;
  uint8_t* out;
  V16 inverse_scale, zero_point;
  [[gnu::always_inline]] void store(int64_t i, const V16 (&y)[kVectors], int64_t lanes) const {
    V16 q[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) q[v] = fma(y[v], inverse_scale, zero_point);
    if (lanes >= 16 * kVectors) {
      store_clamped(out + i, q);
      return;
    }
    uint8_t last[16 * kVectors];
    store_clamped(last, q);
    std::memcpy(out + i, last, static_cast<size_t>(lanes));
  }
};

enum class Centred { no, yes };  // rms_norm, layer_norm

template <Centred kCentred>
[[gnu::always_inline]] inline V16 centred(V16 x, V16 mean) {
  return kCentred == Centred::yes ? x - mean : x;
}

// y = (x - mean) * scale * gamma + beta for R rows from row r on
template <Centred kCentred, int R, class Output>
inline void write_rows(const taille::NormArgs& g, int64_t r, const V16 (&mean)[R], const V16 (&scale)[R],
                       const Output& output) {
  constexpr int V = Output::kVectors;
  const V16 zero = splat(0.0f), one = splat(1.0f);
  const int64_t n = g.n, begin = r * n;
  const float *x = g.x + begin, *gammas = g.gamma, *betas = g.beta;  // copies: a byte that is written may be anything
  for_vectors<V>(n, [&](int64_t i, int64_t lanes) {
    V16 gamma[V], beta[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + 16 * v, left = lanes - 16 * v;
      gamma[v] = gammas == nullptr || left <= 0 ? one : load_upto(gammas + at, left, one);
      beta[v] = betas == nullptr || left <= 0 ? zero : load_upto(betas + at, left, zero);
    }
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
      V16 y[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t at = j * n + i + 16 * v, left = lanes - 16 * v;
        const V16 d = left <= 0 ? zero : centred<kCentred>(load_upto(x + at, left, zero), mean[j]);
        y[v] = fma(d * scale[j], gamma[v], beta[v]);
      }
      output.store(begin + j * n + i, y, lanes);
    }
  });
}

// The means of R rows of n from x on.
template <int R>
[[gnu::always_inline]] inline void row_means(const float* x, int64_t n, V16 (&mean)[R]) {
  const V16 zero = splat(0.0f);
  V16 sum[R];
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) sum[j] = zero;
  for_vectors(n, [&](int64_t i, int64_t lanes) {
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) sum[j] = sum[j] + load_upto(x + j * n + i, lanes, zero);
  });
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) mean[j] = splat(reduce_add(sum[j]) / static_cast<float>(n));
}

// R rows from row r on
template <Centred kCentred, int R, class Output>
inline void norm_rows(const taille::NormArgs& g, int64_t r, const Output& output) {
  const float* x = g.x + r * g.n;
  const float n = static_cast<float>(g.n);
  V16 sum[R], mean[R], scale[R];
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) sum[j] = mean[j] = splat(0.0f);
  if constexpr (kCentred == Centred::yes) row_means<R>(x, g.n, mean);
  for_vectors(g.n, [&](int64_t i, int64_t lanes) {
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
      const V16 d = centred<kCentred>(load_upto(x + j * g.n + i, lanes, mean[j]), mean[j]);
      sum[j] = fma(d, d, sum[j]);
    }
  });
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) scale[j] = splat(1.0f / __builtin_sqrtf(reduce_add(sum[j]) / n + g.epsilon));
  write_rows<kCentred, R>(g, r, mean, scale, output);
}

// R rows at once, fewer at the end.
template <Centred kCentred, int R, class Output>
inline void norm_from(const taille::NormArgs& g, int64_t r, const Output& output) {
  for (; r + R <= g.rows; r += R) norm_rows<kCentred, R>(g, r, output);
  if constexpr (R > 1) norm_from<kCentred, R / 2>(g, r, output);
}

template <Centred kCentred>
inline void norm_run(const taille::NormArgs& g) {
  // Eight rows of float32 results would displace each other from L1.
  if (g.out_u8 == nullptr)
    norm_from < kCentred, kVectorsLive<4 ? 1 : 4>(g, 0, FloatOutput{g.out});
  else
    norm_from < kCentred,
        kVectorsLive<8 ? kVectorsLive : 8>(g, 0, ByteOutput{g.out_u8, splat(g.inverse_scale), splat(g.zero_point)});
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
    const float* x = g.x + r * g.n;
    for_vectors(g.n, [&](int64_t i, int64_t lanes) { sum = sum + load_upto(x + i, lanes, splat(0.0f)); });
    g.out[r] = reduce_add(sum) / g.divisor;
  }
}

}  // namespace
