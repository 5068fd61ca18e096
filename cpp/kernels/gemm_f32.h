// float32 matrix product with fused epilogue; linear layers, convolutions and batched matmul run on it.
//
//   v = 0; for t, p in order: v = fma(a(i,t)[p], w[j, t*k + p], v)       one accumulator per output, K in order:
//   v = v + bias[j]; v = v + residual[i,j];                              the same bits at every level
//   out[i,j] = min(max(v, lo), hi)                                       NaN in v stays NaN
//
// Rows through offsets as in gemm_s8.h (offsets and lda in floats; pad_row: k zeros).
// w is packed by gemm_f32_pack: panels of 64 columns (the last 16, 32, 48 or 64 wide): [K][width]; panel p starts
// at element p * 64 * K. It is float32, or float16 or bfloat16: those are widened as they are read (exactly), so the
// result is that of the float32 kernel on the widened weights.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/half.h"
#include "kernels/kernel_table.h"

namespace taille {

struct GemmF32Args {
  const float* a;
  int64_t lda;
  const int32_t* offsets;
  int64_t taps;
  const float* pad_row;
  int64_t k;
  const void* packed;  // of packed_type
  DType packed_type;   // f32, f16 or bf16
  float* scratch;      // gemm_f32_scratch_bytes(packed_type, n, taps * k), one per thread, 64-byte aligned
  int64_t n;
  int64_t m_begin, m_end;
  int64_t n_begin, n_end;  // n_begin a multiple of 64, n_end too or n
  const float* bias;       // [n] or null
  const float* residual;   // or null
  int64_t residual_stride;
  float lo, hi;  // -inf, +inf for none
  float* out;    // none of the inputs: deep sums wait in it between blocks
  int64_t ldc;
};

// Rows up to which a 16-bit weight is widened for each tile; above, a block of a panel is widened once for all tiles.
// Measured on products of 1024 x 1024: float16 is as fast either way at 24 rows, bfloat16 at 36.
inline constexpr int64_t kGemmF32DirectRows = 24;
inline constexpr int64_t kGemmF32DepthBlock = 128;  // of a panel: 32 KiB, which stay in L1
// Steps from which on a float32 panel is taken in blocks: by products of few rows, whose outputs stay in L1 and L2
// meanwhile, and by all.
inline constexpr int64_t kGemmF32BlockRows = 256;
inline constexpr int64_t kGemmF32BlockFloats = 1024;
inline constexpr int64_t kGemmF32DeepFloats = 4096;
// Weights of 16 bits, widened: all of them where they are at most so many bytes, else deep blocks of a panel.
inline constexpr int64_t kGemmF32ResidentBytes = 512 * 1024;  // in L2
inline constexpr int64_t kGemmF32WideBlock = 1024;
constexpr int64_t gemm_f32_widened_bytes(int64_t n, int64_t k_total) { return (n + 15) / 16 * 64 * k_total; }
// Levels whose tiles are 16 columns wide take so many steps of a strip at a time, or all where they are little more.
inline constexpr int64_t kGemmF32StripBlock = 256;
constexpr int64_t gemm_f32_strip_depth(int64_t k_total) {
  return k_total <= kGemmF32StripBlock + kGemmF32StripBlock / 2 ? k_total : kGemmF32StripBlock;
}
// Rows a multiple of 4 KiB apart share one set of L1: blocks of so many of them are copied, this many floats apart.
inline constexpr int64_t kGemmF32SetFloats = 1024;
inline constexpr int64_t kGemmF32CopiedRows = 192;
inline constexpr int64_t kGemmF32CopiedRow = kGemmF32StripBlock + 16;
constexpr bool gemm_f32_copies_rows(int64_t k) { return k > kGemmF32StripBlock && k % kGemmF32SetFloats == 0; }
constexpr int64_t gemm_f32_scratch_bytes(DType packed_type, int64_t n, int64_t k_total) {
  const int64_t rows = gemm_f32_copies_rows(k_total) ? kGemmF32CopiedRows * kGemmF32CopiedRow : 0;
  const int64_t strip = (gemm_f32_strip_depth(k_total) * 16 + rows) * 4;
  if (!is_half(packed_type)) return strip;
  const int64_t all = gemm_f32_widened_bytes(n, k_total);
  const int64_t depth = k_total < kGemmF32WideBlock ? k_total : kGemmF32WideBlock;
  const int64_t widened = all <= kGemmF32ResidentBytes ? all : depth * 64 * 4;
  return widened < strip ? strip : widened;
}

int64_t gemm_f32_packed_elements(int64_t n, int64_t k_total);
// w(j, p) = w[j*stride_n + p*stride_k] -> packed; so both [n][k] and [k][n] weights pack without a transpose. Both are
// of `type`.
void gemm_f32_pack(DType type, const void* w, int64_t stride_n, int64_t stride_k, int64_t n, int64_t k_total,
                   void* packed);

KernelTable<GemmF32Args> gemm_f32_table();

}  // namespace taille
