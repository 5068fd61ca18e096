// Rows and epilogue of gemm_s8 in scalars, which the references share. Not for files with ISA flags.
#pragma once

#include <cmath>

#include "kernels/gemm_s8.h"
#include "kernels/scalar_u8.h"

namespace taille {

inline const uint8_t* gemm_s8_row(const GemmS8Args& g, int64_t i, int64_t tap) {
  if (!g.offsets) return g.a + i * g.lda;
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

inline void gemm_s8_finish(const GemmS8Args& g, int64_t i, int64_t j, int32_t acc) {
  float v = std::fma(static_cast<float>(wrapping_add(acc, g.offset[j])), g.scale[j], g.bias[j]);
  const int64_t at = i * g.ldc + j, residual_at = i * g.residual_stride + j;
  if (g.out_f32) {
    if (g.residual) v = v + static_cast<const float*>(g.residual)[residual_at];
    static_cast<float*>(g.out)[at] = clamp(v, g.lo, g.hi);
    return;
  }
  if (g.residual)
    v = std::fma(static_cast<float>(static_cast<const uint8_t*>(g.residual)[residual_at]), g.residual_scale, v);
  static_cast<uint8_t*>(g.out)[at] = round_u8(v, g.lo, g.hi);
}

}  // namespace taille
