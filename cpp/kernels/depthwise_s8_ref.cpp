#include <algorithm>
#include <cmath>

#include "kernels/depthwise.h"
#include "kernels/scalar_u8.h"

namespace taille {
namespace {

const uint8_t* tap_pointer(const DepthwiseS8Args& g, int64_t i, int64_t tap) {
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

void finish(const DepthwiseS8Args& g, int64_t i, int64_t c, int32_t acc) {
  const float v = std::fma(static_cast<float>(wrapping_add(acc, g.offset[c])), g.scale[c], g.bias[c]);
  if (g.out_f32)
    static_cast<float*>(g.out)[i * g.ldc + c] = clamp(v, g.lo, g.hi);
  else
    static_cast<uint8_t*>(g.out)[i * g.ldc + c] = round_u8(v, g.lo, g.hi);
}

}  // namespace

// Blocks of channels that the compiler keeps in registers.
void depthwise_s8_portable(const DepthwiseS8Args& g) {
  constexpr int64_t kBlock = 16;
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t begin = 0; begin < g.channels; begin += kBlock) {
      const int64_t n = std::min(kBlock, g.channels - begin);
      int32_t acc[kBlock] = {};
      for (int64_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* a = tap_pointer(g, i, tap) + begin;
        const int8_t* w = g.w + tap * g.channels + begin;
        if (n == kBlock) {
          for (int64_t c = 0; c < kBlock; ++c) acc[c] += static_cast<int16_t>(a[c]) * static_cast<int16_t>(w[c]);
        } else {
          for (int64_t c = 0; c < n; ++c) acc[c] += a[c] * w[c];
        }
      }
      for (int64_t c = 0; c < n; ++c) finish(g, i, begin + c, acc[c]);
    }
  }
}

void depthwise_s8_reference(const DepthwiseS8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t c = 0; c < g.channels; ++c) {
      int32_t acc = 0;
      for (int64_t tap = 0; tap < g.taps; ++tap) acc += tap_pointer(g, i, tap)[c] * g.w[tap * g.channels + c];
      finish(g, i, c, acc);
    }
  }
}

}  // namespace taille
