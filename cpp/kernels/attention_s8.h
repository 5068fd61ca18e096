// The steps of int8 attention of one (batch, head) around its two products, which are gemm_s8's:
//
//   pack_keys      k uint8 -> int8 weights of q k^T, and what the zero point of q adds to each key's column
//   gemm_s8        scores in units of log2: s[i,j] = scale (sum_d q[i,d] k[j,d] - zero points), float32
//   softmax_u8     p[i,j] = round(255 * 2^(s[i,j] - max s[i,:])), factor[i] = 1 / sum_j p[i,j]
//   pack_values    v uint8 -> int8 weights of p v
//   gemm_s8        t[i,d] = sum_j p[i,j] v[j,d], float32
//   scale_rows     out[i,d] = t[i,d] * factor[i] * scale + shift, uint8 or float32
//
// The weights p are relative to their row's largest, so that long rows keep their precision, and the division is by the
// sum of what was rounded: every row of weights sums to 1 exactly. Terms that are equal for all keys of a row (the zero
// point of k) cancel in the softmax. uint8 becomes int8 by subtracting 128 (a zero point 128 lower).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

// packed[j] = k[j,:] - 128 as gemm_s8 packs column j;  offset[j] = -q_zero_point * sum_d
// (k[j,d] - 128)
struct PackKeysArgs {
  const uint8_t* k;
  int64_t stride;  // bytes between keys
  int64_t keys, dim;
  int32_t q_zero_point;
  int8_t* packed;   // gemm_s8_packed_bytes(keys, dim)
  int32_t* offset;  // [keys]
};
KernelTable<PackKeysArgs> pack_keys_table();

// packed column d = v[:,d] - 128 with zeros from `keys` to `padded_keys`
struct PackValuesArgs {
  const uint8_t* v;
  int64_t stride;             // bytes between keys
  int64_t keys, padded_keys;  // padded_keys a multiple of 4
  int64_t dim;
  int8_t* packed;  // gemm_s8_packed_bytes(dim, padded_keys)
};
KernelTable<PackValuesArgs> pack_values_table();

// Masks as in AttentionArgs, additive ones in natural units. A row that is masked throughout has weights and factor 0.
// 2^x is a polynomial with relative error 7.5e-5, before rounding to 1/255: weights differ from the exact ones by at
// most 1 step. The scores are overwritten.
struct SoftmaxU8Args {
  float* scores;  // row i at scores + (i - begin) * score_stride
  int64_t score_stride;
  int64_t begin, end;  // query rows
  int64_t keys;
  const float* mask;
  const uint8_t* mask_bool;
  int64_t mask_stride, mask_step;
  bool causal;
  uint8_t* out;         // [end - begin][padded_keys]
  int64_t padded_keys;  // a multiple of 16; zeros from `keys` on
  float* factor;        // [end - begin]
};
KernelTable<SoftmaxU8Args> softmax_u8_table();

// v = fma(x * factor, scale, shift), or `masked` where the factor is 0; uint8: rounded half to even, within 0 .. 255.
struct ScaleRowsArgs {
  const float* x;  // [rows][n]
  int64_t rows, n;
  const float* factor;
  float scale, shift, masked;
  void* out;
  int64_t out_stride;  // elements
  bool out_f32;
};
KernelTable<ScaleRowsArgs> scale_rows_table();

}  // namespace taille
