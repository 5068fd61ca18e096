// Depthwise convolution on NHWC: channel c of the output sees channel c of the input only (multiplier 1).
//   acc[i,c] = sum_t a(i,t)[c] * w[t*channels + c]
// Rows through offsets as in gemm_s8.h. Epilogues as in gemm_s8.h (u8, exact) and gemm_f32.h (taps in order).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct DepthwiseS8Args {
  const uint8_t* a;
  const int32_t* offsets;  // [m_end * taps]
  int64_t taps;
  const uint8_t* pad_row;  // [channels] zero point
  int64_t channels;
  const int8_t* w;        // [taps][channels]
  const int32_t* offset;  // [channels]
  const float* scale;     // [channels]
  const float* bias;      // [channels]
  float lo, hi;
  int64_t m_begin, m_end;
  void* out;
  int64_t ldc;
  bool out_f32;
};
KernelTable<DepthwiseS8Args> depthwise_s8_table();

struct DepthwiseF32Args {
  const float* a;
  const int32_t* offsets;
  int64_t taps;
  const float* pad_row;
  int64_t channels;
  const float* w;     // [taps][channels]
  const float* bias;  // [channels] or null
  float lo, hi;
  int64_t m_begin, m_end;
  float* out;
  int64_t ldc;
};
KernelTable<DepthwiseF32Args> depthwise_f32_table();

}  // namespace taille
