// int8 matrix product with fused requantisation; linear layers and convolutions both run on it.
//
//   acc[i,j] = sum_t sum_p a(i,t)[p] * w[j, t*k + p]                    uint8 x int8, exact in int32
//   u8 out:    v = fma(float(acc + offset[j]), scale[j], bias[j])
//              v = fma(float(residual[i,j]), residual_scale, v)          if there is a residual (u8)
//              out[i,j] = round_half_even(min(max(v, lo), hi))           0 <= lo <= hi <= 255; all in output steps
//   f32 out:   v = fma(float(acc + offset[j]), scale[j], bias[j]);  v = v + residual[i,j] (f32);
//              out[i,j] = min(max(v, lo), hi)
//
// Row i of tap t is k contiguous bytes at a + i*lda where offsets is null (taps = 1), else at
// a + offsets[i*taps + t], or at pad_row where that offset is negative (padding: k bytes of the zero point).
// offset[j] carries -zero_point(a) * sum(w[j,:]), so padding and zero point cost nothing in the loop.
// Exact while taps*k <= 66311 (66311*255*127 < 2^31); the graph refuses more.
//
// w is packed by gemm_s8_pack, K = taps*k flattened and padded with zeros to a multiple of 4:
//   panels of 64 columns (the last one 16, 32, 48 or 64 wide, zero columns added): [K/4][width][4].
// Panel p starts at byte p * 64 * Kpad. One packing serves every level. Packed weights should be 64-byte aligned:
// a third of the speed is lost where every load crosses a cache line.
//
// acc + offset[j] wraps in int32; with offset as above it cannot overflow. NaN (only from a NaN scale, bias or
// residual) gives lo.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct GemmS8Args {
  const uint8_t* a;
  int64_t lda;             // bytes between rows; used where offsets is null
  const int32_t* offsets;  // [m_end * taps] or null
  int64_t taps;
  const uint8_t* pad_row;  // k bytes, may be null where no offset is negative
  int64_t k;               // bytes per tap
  const int8_t* packed;
  int64_t n;                // columns in all
  int64_t m_begin, m_end;   // rows to do
  int64_t n_begin, n_end;   // columns to do; n_begin a multiple of 64, n_end too or n
  const int32_t* offset;    // [n]
  const float* scale;       // [n]
  const float* bias;        // [n]
  const void* residual;     // u8 or f32 as the output, or null
  int64_t residual_stride;  // elements between rows
  float residual_scale;     // u8 output only
  float lo, hi;
  bool bounded;    // gemm_s8_bounded's answer; false is always right, and slower
  bool pairs_fit;  // gemm_s8_pairs_fit's answer; the same
  void* out;
  int64_t ldc;       // elements between rows of out
  bool out_f32;      // else u8
  uint8_t* scratch;  // gemm_s8_scratch_bytes(taps * k) bytes, one per thread, 64-byte aligned
};

int64_t gemm_s8_packed_bytes(int64_t n, int64_t k_total);
// w: [n][k_total] row-major int8 -> packed
void gemm_s8_pack(const int8_t* w, int64_t n, int64_t k_total, int8_t* packed);
int64_t gemm_s8_scratch_bytes(int64_t k_total);
// Of that scratch, where operands are widened (gemm_s8_widened.h): rows in a block at most, bytes of a plane of a row.
int64_t gemm_s8_widened_rows(int64_t k_total);
int64_t gemm_s8_widened_plane(int64_t k_total);
// Whether every value before the clamp fits an int32, so that clamping may follow rounding and packing. Takes the
// arguments' n, taps, k, offset, scale, bias and residual_scale; false for NaN.
bool gemm_s8_bounded(const GemmS8Args& args);

// Whether every sum of two products, of bytes 0 and 1 or 2 and 3 of a group of 4, fits 16 bits whatever the activations
// are: no two weights of one sign have magnitudes that add up to more than kS8PairLimit. Then CPUs without VNNI can
// multiply twice as many at a time.
inline constexpr int kS8PairLimit = 128;  // 255 * 128 < 2^15
bool gemm_s8_pairs_fit(const int8_t* packed, int64_t n, int64_t k_total);

KernelTable<GemmS8Args> gemm_s8_table();

}  // namespace taille
