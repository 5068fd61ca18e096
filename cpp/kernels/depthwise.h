// Depthwise convolution on NHWC: channel c of the output sees channel c of the input only (multiplier 1).
//   acc[i,c] = sum_t a(i,t)[c] * w[t*channels + c]
// Epilogues as in gemm_s8.h (u8, exact) and gemm_f32.h (taps in order, rows through offsets).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct DepthwiseWindow {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

// Tap (ky, kx) of output pixel (oy, ox) is input pixel
//   (oy*stride_h - pad_top + ky*dilation_h, ox*stride_w - pad_left + kx*dilation_w)
// or the pad byte in all channels where that lies outside the image.
struct DepthwiseS8Args {
  const uint8_t* a;  // [height][width][channels], one image
  int64_t height, width, channels;
  DepthwiseWindow window;
  uint8_t pad;            // the zero point
  const int8_t* w;        // [kernel_h*kernel_w][channels]
  const int32_t* offset;  // [channels]
  const float* scale;     // [channels]
  const float* bias;      // [channels]
  const uint8_t* packed;  // w, offset, scale and bias by depthwise_s8_pack, 64-byte aligned
  float lo, hi;
  int64_t out_width;
  int64_t row_begin, row_end;  // rows of the output to do
  void* out;                   // [row_end][out_width][ldc], from row 0 on
  int64_t ldc;                 // elements between pixels
  bool out_f32;
  uint8_t* scratch;  // depthwise_s8_scratch_bytes(window) bytes, one per thread, 64-byte aligned
};
KernelTable<DepthwiseS8Args> depthwise_s8_table();

// The vector kernels put the bytes of 4 input rows into one 32-bit lane. Such a set of rows serves two rows of the
// output where the strides allow it: the weights of the second one are moved down by a byte.
[[gnu::always_inline]] inline int64_t depthwise_s8_rows_together(const DepthwiseWindow& w) {
  return w.stride_h == 1 && w.dilation_h == 1 && w.kernel_h % 4 != 0 ? 2 : 1;
}
[[gnu::always_inline]] inline int64_t depthwise_s8_row_sets(const DepthwiseWindow& w) { return (w.kernel_h + 3) / 4; }

// Packed: blocks of 64 channels. A block is weights [kernel_w][row sets][rows together], offset, scale and bias, each
// [4 quarters][4 lanes][4 channels] of 32-bit elements (a weight: 4 rows). Quarter q of lane l is channel
// 16l + 4q + i, as interleaving bytes and packing dwords within 128-bit lanes gives it. A last block of at most 16 or
// 32 channels is repeated in the lanes, for as many pixels at once.
[[gnu::always_inline]] inline int64_t depthwise_s8_block_bytes(const DepthwiseWindow& w) {
  return 256 * (w.kernel_w * depthwise_s8_row_sets(w) * depthwise_s8_rows_together(w) + 3);
}
[[gnu::always_inline]] inline int64_t depthwise_s8_packed_bytes(const DepthwiseWindow& w, int64_t channels) {
  return (channels + 63) / 64 * depthwise_s8_block_bytes(w);
}
// Reads w, offset, scale, bias, channels and window of its arguments.
void depthwise_s8_pack(const DepthwiseS8Args& g, uint8_t* packed);
int64_t depthwise_s8_scratch_bytes(const DepthwiseWindow& w);

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
