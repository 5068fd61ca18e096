#include "runtime/conv_plan.h"

#include <algorithm>

namespace taille {

namespace {

constexpr int64_t kRowGrain = 12;

}  // namespace

ConvGeometry geometry_of(const Graph& g, const Node& node) {
  const auto& w = g.value(node.inputs[1]).constant->dims;
  const int64_t groups = node.attr<int64_t>("groups");
  return {w[0], w[3] * groups, groups, w[1], w[2]};
}

GemmPartition partition_block(const ConvGeometry& geo, const ImageBlocks& blocks, int parts) {
  if (geo.groups > 1) return {true, parts, kRowGrain};  // grouped and depthwise weights are small
  return partition_gemm(blocks.per_block * blocks.pixels_out, geo.out_channels,
                        blocks.per_block * blocks.image_elements, geo.out_channels * geo.taps() * geo.in_channels,
                        parts);
}

std::shared_ptr<ConvPlan> plan_conv(const Node& node, const ConvGeometry& geo, const NodeShapes& shapes,
                                    const EngineConfig& config, bool int8) {
  const Dims &in = shapes.inputs[0], &out = shapes.output;
  const Window w = window_of(node, geo.kernel_h, geo.kernel_w);
  const auto& padding = node.attr<std::vector<int64_t>>("padding");
  const bool plain = geo.taps() == 1 && w.stride_h == 1 && w.stride_w == 1 &&
                     std::all_of(padding.begin(), padding.end(), [](int64_t p) { return p == 0; }) && !geo.depthwise();
  auto plan = std::make_shared<ConvPlan>();
  plan->blocks = image_blocks(in, out, kRowsPerTable);
  if (plain)
    plan->blocks.per_block = std::max<int64_t>(1, plan->blocks.images);
  else
    plan->offsets = conv_offsets(w, in, out, plan->blocks);
  plan->output_stride = shapes.output_stride;
  const double seconds = product_seconds(config.isa, int8, product(out) / std::max<int64_t>(1, geo.out_channels),
                                         geo.out_channels, geo.taps() * geo.group_in());
  plan->parts = worth_forking(config, seconds * (geo.depthwise() ? 8 : 1));
  plan->within_block = partition_block(geo, plan->blocks, plan->parts);
  return plan;
}

}  // namespace taille
