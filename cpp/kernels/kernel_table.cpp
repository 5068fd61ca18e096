#include "kernels/kernel_table.h"

#include "kernels/attention.h"
#include "kernels/attention_s8.h"
#include "kernels/conv_s8.h"
#include "kernels/depthwise.h"
#include "kernels/elementwise.h"
#include "kernels/gemm_f32.h"
#include "kernels/gemm_s8.h"
#include "kernels/gemm_sparse_f32.h"
#include "kernels/gemm_sparse_s8.h"
#include "kernels/half.h"
#include "kernels/movement.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "kernels/pruning_mask.h"
#include "kernels/quantize.h"

namespace taille {
namespace {

template <class Args>
void append(std::vector<KernelListing>& out, const char* op, KernelTable<Args> table) {
  for (const auto& row : table) out.push_back({op, row.name, row.required});
}

}  // namespace

std::vector<KernelListing> list_kernels() {
  std::vector<KernelListing> out;
  append(out, "gemm_f32", gemm_f32_table());
  append(out, "gemm_sparse_f32", gemm_sparse_f32_table());
  append(out, "depthwise_f32", depthwise_f32_table());
  append(out, "pool_max_f32", pool_max_f32_table());
  append(out, "pool_avg_f32", pool_avg_f32_table());
  append(out, "unary", unary_table());
  append(out, "binary", binary_table());
  append(out, "softmax", softmax_table());
  append(out, "layer_norm", layer_norm_table());
  append(out, "rms_norm", rms_norm_table());
  append(out, "mean_rows", mean_rows_table());
  append(out, "mean_last", mean_last_table());
  append(out, "attention", attention_table());
  append(out, "pack_keys", pack_keys_table());
  append(out, "pack_values", pack_values_table());
  append(out, "softmax_u8", softmax_u8_table());
  append(out, "scale_rows", scale_rows_table());
  append(out, "gemm_s8", gemm_s8_table());
  append(out, "gemm_sparse_s8", gemm_sparse_s8_table());
  append(out, "conv_s8", conv_s8_table());
  append(out, "depthwise_s8", depthwise_s8_table());
  append(out, "pool_max_u8", pool_max_u8_table());
  append(out, "pool_avg_u8", pool_avg_u8_table());
  append(out, "quantize", quantize_table());
  append(out, "dequantize", dequantize_table());
  append(out, "add_u8", add_u8_table());
  append(out, "lookup", lookup_table());
  append(out, "observe", observe_table());
  append(out, "histogram", histogram_table());
  append(out, "score_bins", score_bins_table());
  append(out, "apply_mask", apply_mask_table());
  append(out, "block_scores", block_scores_table());
  append(out, "nm_mask", nm_mask_table());
  append(out, "widen", widen_table());
  append(out, "narrow", narrow_table());
  append(out, "copy", copy_table());
  append(out, "embedding", embedding_table());
  append(out, "embedding_s8", embedding_s8_table());
  return out;
}

}  // namespace taille
