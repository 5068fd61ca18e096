// What depthwise_s8.cpp (packing, scratch) and the vector kernels (depthwise_s8_tiles.h) agree on.
#pragma once

#include <cstdint>

#include "kernels/depthwise.h"

namespace taille {
namespace {

// Columns of the interleaved input that lie in the scratch at once; they stay in L1.
constexpr int64_t kDepthwisePositions = 40;
constexpr int64_t kDepthwiseMaxSteps = 64;  // columns of the kernel times sets of rows

constexpr int64_t depthwise_s8_block_width(int64_t channels) { return channels <= 16 ? 16 : channels <= 32 ? 32 : 64; }

// Columns of the interleaved input beyond the first that one output pixel sees.
[[maybe_unused]] inline int64_t depthwise_s8_reach(const DepthwiseWindow& w) {
  return (w.kernel_w - 1) * w.dilation_w / w.stride_w;
}

// Whether the vector kernels do this window; the portable kernel does the others.
[[maybe_unused]] inline bool depthwise_s8_fits(const DepthwiseWindow& w) {
  return w.stride_w <= 4 && depthwise_s8_reach(w) + 16 <= kDepthwisePositions &&
         w.kernel_w * depthwise_s8_row_sets(w) <= kDepthwiseMaxSteps;
}

}  // namespace
}  // namespace taille
