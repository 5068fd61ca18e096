// Depthwise convolution over V16: R output pixels x U vectors of channels stay in registers while the taps advance,
// so a tap's weights are loaded once for R pixels. All pixels are done for a few channels before the next, so the
// rows of the image under the window stay in L1. Include after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/depthwise.h"
#include "kernels/vec16_math.h"

namespace {

// Pixels i .. i+R-1, channels c .. c+16U-1, of which the last vector has `lanes`
template <int R, int U>
[[gnu::always_inline]] inline void depthwise_block(const taille::DepthwiseF32Args& g, int64_t i, int64_t c,
                                                   int64_t lanes) {
  const V16 zero = splat(0.0f);
  V16 acc[R][U];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) acc[r][u] = zero;
  for (int64_t t = 0; t < g.taps; ++t) {
    V16 w[U];
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) w[u] = load_upto(g.w + t * g.channels + c + 16 * u, lanes, zero);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const int32_t offset = g.offsets[(i + r) * g.taps + t];
      const float* a = (offset < 0 ? g.pad_row : g.a + offset) + c;
#pragma GCC unroll 16
      for (int u = 0; u < U; ++u) acc[r][u] = fma(load_upto(a + 16 * u, lanes, zero), w[u], acc[r][u]);
    }
  }
#pragma GCC unroll 16
  for (int u = 0; u < U; ++u) {
    const int64_t j = c + 16 * u;
    const V16 bias = g.bias == nullptr ? zero : load_upto(g.bias + j, lanes, zero);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V16 v = g.bias == nullptr ? acc[r][u] : acc[r][u] + bias;  // -0 + 0 would be 0
      store_upto(g.out + (i + r) * g.ldc + j, clamp(v, splat(g.lo), splat(g.hi)), lanes);
    }
  }
}

template <int U>
[[gnu::always_inline]] inline void depthwise_channels(const taille::DepthwiseF32Args& g, int64_t c, int64_t lanes) {
  constexpr int kPixels = kVectorsLive >= 16 ? 4 : kVectorsLive >= 4 ? 2 : 1;
  int64_t i = g.m_begin;
  for (; i + kPixels <= g.m_end; i += kPixels) depthwise_block<kPixels, U>(g, i, c, lanes);
  for (; i < g.m_end; ++i) depthwise_block<1, U>(g, i, c, lanes);
}

inline void depthwise_f32_run(const taille::DepthwiseF32Args& g) {
  int64_t c = 0;
  if constexpr (kVectorsLive >= 16)
    for (; c + 64 <= g.channels; c += 64) depthwise_channels<4>(g, c, 16);
  if constexpr (kVectorsLive >= 4)
    for (; c + 32 <= g.channels; c += 32) depthwise_channels<2>(g, c, 16);
  for (; c + 16 <= g.channels; c += 16) depthwise_channels<1>(g, c, 16);
  if (c < g.channels) depthwise_channels<1>(g, c, g.channels - c);
}

}  // namespace
