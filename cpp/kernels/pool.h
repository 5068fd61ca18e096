// Max and average pooling on NHWC (adaptive and global pooling too). Output pixel i covers the input pixels
// offsets[starts[i] .. starts[i+1]); padding is not listed, so maxima ignore it. At least one pixel each.
//   max:      out[i,c] = max_t a[offsets[t] + c]                          NaN propagates in f32
//   avg f32:  out[i,c] = (sum over t in order) / divisor[i]
//   avg u8:   out[i,c] = round_half_even(min(max(fma(float(sum_t a), multiplier[i], bias[i]), 0), 255))
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

template <class T>
struct PoolArgs {
  const T* a;
  const int32_t* starts;   // [m_end + 1]
  const int32_t* offsets;  // in elements
  int64_t channels;
  int64_t m_begin, m_end;
  T* out;
  int64_t ldc;
  const float* divisor;     // avg f32: [m_end]
  const float* multiplier;  // avg u8: [m_end]
  const float* bias;        // avg u8: [m_end]
};
using PoolF32Args = PoolArgs<float>;
using PoolU8Args = PoolArgs<uint8_t>;

KernelTable<PoolF32Args> pool_max_f32_table();
KernelTable<PoolU8Args> pool_max_u8_table();
KernelTable<PoolF32Args> pool_avg_f32_table();
KernelTable<PoolU8Args> pool_avg_u8_table();

}  // namespace taille
