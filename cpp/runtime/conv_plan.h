// What the convolution operators share: geometry, the plan of one shape, and the walk over images and threads.
#pragma once

#include <memory>
#include <vector>

#include "runtime/operator.h"
#include "runtime/partition.h"
#include "runtime/window.h"

namespace taille {

inline constexpr int64_t kRowsPerTable = 192;  // output pixels an offset table covers at least, where there are as many

struct ConvGeometry {
  int64_t out_channels, in_channels, groups, kernel_h, kernel_w;
  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t group_in() const { return in_channels / groups; }
  int64_t group_out() const { return out_channels / groups; }
  bool depthwise() const { return groups > 1 && groups == in_channels && groups == out_channels; }
};

ConvGeometry geometry_of(const Graph& graph, const Node& node);

struct ConvPlan {
  ImageBlocks blocks;
  std::vector<int32_t> offsets;  // empty: rows are the input's own
  int64_t output_stride;         // elements between output pixels
  int parts;
  GemmPartition within_block;  // where there are fewer blocks than threads
};

std::shared_ptr<ConvPlan> plan_conv(const Node& node, const ConvGeometry& geo, const NodeShapes& shapes,
                                    const EngineConfig& config, bool int8);

// How one block of images is shared out.
GemmPartition partition_block(const ConvGeometry& geo, const ImageBlocks& blocks, int parts);

// Runs body(block, part, thread) over all images: blocks are shared out where there are enough, else each block.
template <class Body>
void for_blocks(const RunContext& c, const ConvPlan& plan, int64_t columns, const Body& body) {
  const int64_t blocks = plan.blocks.blocks();
  auto rows_of = [&](int64_t block) { return plan.blocks.images_in(block) * plan.blocks.pixels_out; };
  if (blocks >= plan.parts) {
    split(c.pool, blocks, 1, plan.parts, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t b = begin; b < end; ++b) body(b, GemmPartition::Part{0, rows_of(b), 0, columns}, thread);
    });
    return;
  }
  for (int64_t b = 0; b < blocks; ++b)
    for_parts(c.pool, plan.within_block, rows_of(b), columns,
              [&](const GemmPartition::Part& p, int thread) { body(b, p, thread); });
}

}  // namespace taille
