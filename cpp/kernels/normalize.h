// Softmax, LayerNorm and RMSNorm over rows of n contiguous floats. Sums run over 16 virtual lanes (lane = index mod 16)
// and end in one fixed tree (i with i+8, +4, +2, +1), so every level and thread count gives the same bits.
//   softmax:     y = exp(x - max x) / sum exp(x - max x);   a row of -inf gives zeros
//   layer_norm:  y = (x - mean) / sqrt(variance + epsilon) * gamma + beta          biased variance, two passes
//   rms_norm:    y = x / sqrt(mean(x^2) + epsilon) * gamma          Zhang and Sennrich 2019, arXiv:1910.07467
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct SoftmaxArgs {
  const float* x;
  int64_t rows, n;
  float* out;  // may be x
};
KernelTable<SoftmaxArgs> softmax_table();

struct NormArgs {
  const float* x;
  int64_t rows, n;
  const float* gamma;  // [n] or null
  const float* beta;   // [n] or null; not read by rms_norm
  float epsilon;
  float* out;                       // may be x; not written where out_u8 is given
  uint8_t* out_u8;                  // null, or for the bytes that quantize.h makes of y
  float inverse_scale, zero_point;  // of out_u8
};
KernelTable<NormArgs> layer_norm_table();
KernelTable<NormArgs> rms_norm_table();

// Sum over the leading of two dimensions: out[c] = (sum_r x[r*stride + c]) / divisor, rows in order.
struct MeanRowsArgs {
  const float* x;
  int64_t rows, stride, n;
  float divisor;
  float* out;
};
KernelTable<MeanRowsArgs> mean_rows_table();

// out[r] = (sum of row r over 16 virtual lanes) / divisor
struct MeanLastArgs {
  const float* x;
  int64_t rows, n;
  float divisor;
  float* out;
};
KernelTable<MeanLastArgs> mean_last_table();

}  // namespace taille
