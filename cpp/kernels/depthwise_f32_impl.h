// Depthwise convolution over V16: R output pixels x U vectors of channels stay in registers while the taps advance,
// so a tap's weights are loaded once for R pixels. Include after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/depthwise.h"
#include "kernels/vec16_math.h"

namespace {

// Pixels i .. i+R-1, channels c .. c+16U-1, of which `left` exist (left < 16U only where U is 1).
template <int R, int U>
inline void depthwise_block(const taille::DepthwiseF32Args& g, int64_t i, int64_t c, int64_t left) {
  const V16 zero = splat(0.0f);
  const bool full = left >= 16 * U;
  V16 acc[R][U];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) acc[r][u] = zero;
  for (int64_t t = 0; t < g.taps; ++t) {
    V16 w[U];
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) {
      const float* p = g.w + t * g.channels + c + 16 * u;
      w[u] = full ? load(p) : load_n(p, left, zero);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const int32_t offset = g.offsets[(i + r) * g.taps + t];
      const float* a = (offset < 0 ? g.pad_row : g.a + offset) + c;
#pragma GCC unroll 16
      for (int u = 0; u < U; ++u)
        acc[r][u] = fma(full ? load(a + 16 * u) : load_n(a + 16 * u, left, zero), w[u], acc[r][u]);
    }
  }
#pragma GCC unroll 16
  for (int u = 0; u < U; ++u) {
    const int64_t j = c + 16 * u;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      V16 v = acc[r][u];
      if (g.bias != nullptr) v = v + (full ? load(g.bias + j) : load_n(g.bias + j, left, zero));
      v = clamp(v, splat(g.lo), splat(g.hi));
      float* out = g.out + (i + r) * g.ldc + j;
      if (full)
        store(out, v);
      else
        store_n(out, v, left);
    }
  }
}

template <int R>
inline void depthwise_pixels(const taille::DepthwiseF32Args& g, int64_t i) {
  constexpr int kWide = kVectorsLive >= 16 ? 4 : kVectorsLive >= 4 ? 2 : 1;
  int64_t c = 0;
  for (; c + 16 * kWide <= g.channels; c += 16 * kWide) depthwise_block<R, kWide>(g, i, c, 16 * kWide);
  for (; c + 16 <= g.channels; c += 16) depthwise_block<R, 1>(g, i, c, 16);
  if (c < g.channels) depthwise_block<R, 1>(g, i, c, g.channels - c);
}

inline void depthwise_f32_run(const taille::DepthwiseF32Args& g) {
  constexpr int kPixels = kVectorsLive >= 16 ? 4 : kVectorsLive >= 4 ? 2 : 1;
  int64_t i = g.m_begin;
  for (; i + kPixels <= g.m_end; i += kPixels) depthwise_pixels<kPixels>(g, i);
  for (; i < g.m_end; ++i) depthwise_pixels<1>(g, i);
}

}  // namespace
