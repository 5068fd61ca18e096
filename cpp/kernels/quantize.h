// Between float32 and uint8, and element-wise work that stays uint8.
//   quantize:    q = round_half_even(min(max(fma(x, inverse_scale, zero_point), 0), 255))   NaN gives 0
//   dequantize:  x = (q - zero_point) * scale
//   add:         q = round_half_even(min(max(fma(b, b_scale, fma(a, a_scale, bias)), lo), hi))      in output steps
//   rescale:     q = round_half_even(min(max(fma(a, a_scale, bias), lo), hi))                        (concat, relu)
//   lookup:      q = table[a]                                                                        (GELU, ...)
//   observe:     running minimum and maximum of finite values; NaN or infinity added to `bad`;
//                the minimum and maximum are never -0, whatever the order of the zeros
//   histogram:   counts[min(max(trunc((x - first) * inverse_width), 0), bins-1)] += 1 for finite x in order
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct QuantizeArgs {
  const float* x;
  int64_t n;
  float inverse_scale;
  float zero_point;
  uint8_t* out;
};
KernelTable<QuantizeArgs> quantize_table();

struct DequantizeArgs {
  const uint8_t* x;
  int64_t n;
  float scale;
  int32_t zero_point;
  float* out;
};
KernelTable<DequantizeArgs> dequantize_table();

struct AddU8Args {
  const uint8_t* a;
  const uint8_t* b;  // null: rescale a only
  int64_t n;
  float a_scale, b_scale, bias;
  float lo, hi;
  uint8_t* out;  // may be a or b
};
KernelTable<AddU8Args> add_u8_table();

struct LookupArgs {
  const uint8_t* a;
  int64_t n;
  const uint8_t* table;  // [256]
  uint8_t* out;          // may be a
};
KernelTable<LookupArgs> lookup_table();

struct ObserveArgs {
  const float* x;
  int64_t n;
  float* minimum;  // in and out
  float* maximum;
  int64_t* bad;
};
KernelTable<ObserveArgs> observe_table();

struct HistogramArgs {
  const float* x;
  int64_t n;
  float first, inverse_width;
  int64_t bins;
  int64_t* counts;
};
KernelTable<HistogramArgs> histogram_table();

}  // namespace taille
