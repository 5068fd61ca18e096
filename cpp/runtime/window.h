// Offset tables for sliding windows on NHWC: which input pixel each output pixel and tap reads. The tables hold for a
// block of images, so that small images still give the matrix kernels enough rows; later blocks shift the base.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/operator.h"

namespace taille {

struct Window {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

// Of a conv2d (kernel from its weight) or pooling node; all NHWC.
Window window_of(const Node& node, int64_t kernel_h, int64_t kernel_w);

struct ImageBlocks {
  int64_t images;          // in all
  int64_t per_block;       // images a table covers
  int64_t pixels_out;      // of one image
  int64_t image_elements;  // of one input image

  int64_t blocks() const { return per_block > 0 ? (images + per_block - 1) / per_block : 0; }
  int64_t images_in(int64_t block) const {
    return block * per_block + per_block <= images ? per_block : images - block * per_block;
  }
};
// Enough images for at least `rows` output pixels a block.
ImageBlocks image_blocks(const Dims& in, const Dims& out, int64_t rows);

// [per_block * pixels_out][taps]: element offset of channel 0 of the pixel, or -1 where it lies in the padding.
std::vector<int32_t> conv_offsets(const Window& w, const Dims& in, const Dims& out, const ImageBlocks& blocks);

// Pixels that each output pixel of one image covers, padding left out.
struct PoolTable {
  std::vector<int32_t> starts, offsets;
};
PoolTable pool_table(const Window& w, const Dims& in, const Dims& out);
// Adaptive pooling: output i covers [floor(i*in/out), ceil((i+1)*in/out)).
PoolTable adaptive_table(const Dims& in, const Dims& out);

}  // namespace taille
