#include <algorithm>
#include <cmath>

#include "kernels/depthwise.h"
#include "kernels/scalar_u8.h"

namespace taille {
namespace {

// Channel 0 of the input pixel under a tap; null in the padding.
const uint8_t* tap_pointer(const DepthwiseS8Args& g, int64_t oy, int64_t ox, int64_t tap) {
  const DepthwiseWindow& w = g.window;
  const int64_t y = oy * w.stride_h - w.pad_top + tap / w.kernel_w * w.dilation_h;
  const int64_t x = ox * w.stride_w - w.pad_left + tap % w.kernel_w * w.dilation_w;
  return y >= 0 && y < g.height && x >= 0 && x < g.width ? g.a + (y * g.width + x) * g.channels : nullptr;
}

void finish(const DepthwiseS8Args& g, int64_t pixel, int64_t c, int32_t acc) {
  const float v = std::fma(static_cast<float>(wrapping_add(acc, g.offset[c])), g.scale[c], g.bias[c]);
  if (g.out_f32)
    static_cast<float*>(g.out)[pixel * g.ldc + c] = clamp(v, g.lo, g.hi);
  else
    static_cast<uint8_t*>(g.out)[pixel * g.ldc + c] = round_u8(v, g.lo, g.hi);
}

}  // namespace

// Blocks of channels that the compiler keeps in registers.
void depthwise_s8_portable(const DepthwiseS8Args& g) {
  constexpr int64_t kBlock = 16;
  uint8_t pad[kBlock];
  std::fill_n(pad, kBlock, g.pad);
  const int64_t taps = g.window.kernel_h * g.window.kernel_w;
  for (int64_t oy = g.row_begin; oy < g.row_end; ++oy)
    for (int64_t ox = 0; ox < g.out_width; ++ox)
      for (int64_t begin = 0; begin < g.channels; begin += kBlock) {
        const int64_t n = std::min(kBlock, g.channels - begin);
        int32_t acc[kBlock] = {};
        for (int64_t tap = 0; tap < taps; ++tap) {
          const uint8_t* pixel = tap_pointer(g, oy, ox, tap);
          const uint8_t* a = pixel ? pixel + begin : pad;
          const int8_t* w = g.w + tap * g.channels + begin;
          if (n == kBlock) {
            for (int64_t c = 0; c < kBlock; ++c) acc[c] += static_cast<int16_t>(a[c]) * static_cast<int16_t>(w[c]);
          } else {
            for (int64_t c = 0; c < n; ++c) acc[c] += a[c] * w[c];
          }
        }
        for (int64_t c = 0; c < n; ++c) finish(g, oy * g.out_width + ox, begin + c, acc[c]);
      }
}

void depthwise_s8_reference(const DepthwiseS8Args& g) {
  for (int64_t oy = g.row_begin; oy < g.row_end; ++oy)
    for (int64_t ox = 0; ox < g.out_width; ++ox)
      for (int64_t c = 0; c < g.channels; ++c) {
        int32_t acc = 0;
        for (int64_t tap = 0; tap < g.window.kernel_h * g.window.kernel_w; ++tap) {
          const uint8_t* pixel = tap_pointer(g, oy, ox, tap);
          acc += (pixel ? pixel[c] : g.pad) * g.w[tap * g.channels + c];
        }
        finish(g, oy * g.out_width + ox, c, acc);
      }
}

}  // namespace taille
