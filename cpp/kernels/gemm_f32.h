// float32 matrix product with fused epilogue; linear layers, convolutions and batched matmul run on it.
//
//   v = 0; for t, p in order: v = fma(a(i,t)[p], w[j, t*k + p], v)       one accumulator per output, K in order:
//   v = v + bias[j]; v = v + residual[i,j];                              the same bits at every level
//   out[i,j] = min(max(v, lo), hi)                                       NaN in v stays NaN
//
// Rows through offsets as in gemm_s8.h (offsets and lda in floats; pad_row: k zeros).
// w is packed by gemm_f32_pack: panels of 64 columns (the last 16, 32, 48 or 64 wide): [K][width]; panel p starts
// at float p * 64 * K.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct GemmF32Args {
  const float* a;
  int64_t lda;
  const int32_t* offsets;
  int64_t taps;
  const float* pad_row;
  int64_t k;
  const float* packed;
  int64_t n;
  int64_t m_begin, m_end;
  int64_t n_begin, n_end;  // n_begin a multiple of 64, n_end too or n
  const float* bias;       // [n] or null
  const float* residual;   // or null
  int64_t residual_stride;
  float lo, hi;  // -inf, +inf for none
  float* out;
  int64_t ldc;
};

int64_t gemm_f32_packed_floats(int64_t n, int64_t k_total);
// w(j, p) = w[j*stride_n + p*stride_k] -> packed; so both [n][k] and [k][n] weights pack without a transpose
void gemm_f32_pack(const float* w, int64_t stride_n, int64_t stride_k, int64_t n, int64_t k_total, float* packed);

KernelTable<GemmF32Args> gemm_f32_table();

}  // namespace taille
