// int8 convolution over an image that is padded in memory: all bytes of a filter row (kernel_w * channels, in NHWC)
// lie together there, so a filter row is one tap and rows of a matrix product are read where they lie, neither through
// offsets nor gathered.
//
//   acc[y, x, j] = sum_t sum_p a[y*row_stride + x*pixel_stride + t*tap_stride + p] * w[j, t*k + p]
//
// w is packed by gemm_s8_pack with depth taps * k; k is the filter row's bytes rounded up by conv_s8_tap_bytes, with
// weights of 0 for the bytes that are too many. Outputs, constants, clamp and residual are gemm_s8's, one row for each
// output pixel.
#pragma once

#include "kernels/gemm_s8.h"

namespace taille {

struct ConvS8Args {
  // m_begin, m_end: output rows (y); lda: pixel_stride; no offsets, no pad_row. Output pixel (y, x) is row y*width + x
  // of out and residual. scratch: conv_s8_scratch_bytes.
  GemmS8Args product;
  int64_t width;       // output pixels in a row
  int64_t row_stride;  // bytes between the first pixels of output rows
  int64_t tap_stride;  // bytes between filter rows
};

constexpr int64_t kMaxConvTaps = 32;  // filter rows

int64_t conv_s8_tap_bytes(int64_t filter_row_bytes);
int64_t conv_s8_scratch_bytes(int64_t depth);
// Bytes from `a` on that may be read, for output rows up to m_end: more than the formula above, since pixels are done
// 16 at a time.
int64_t conv_s8_image_bytes(const ConvS8Args& args);

KernelTable<ConvS8Args> conv_s8_table();

}  // namespace taille
