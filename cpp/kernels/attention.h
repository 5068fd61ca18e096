// Scaled dot-product attention of one (batch, head) for query rows [q_begin, q_end), float32:
//   s[i,j] = scale * (sum_d q[i,d] k[j,d])  (+ mask[i,j], or -inf where a boolean mask is false or, causal, j > i)
//   out[i,:] = sum_j softmax(s[i,:])[j] * v[j,:]
// Strides let it read and write [batch, sequence, heads, dim] without a transpose. Each sum has one fixed order, so
// every level gives the same bits. A row that is masked throughout gives zeros (torch gives NaN or zeros by backend).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

struct AttentionArgs {
  const float* q;
  const float* k;
  const float* v;
  int64_t q_stride, k_stride, v_stride;  // floats between rows
  int64_t keys;                          // rows of k and v
  int64_t dim, value_dim;
  int64_t q_begin, q_end;
  const float* mask;               // additive, or null
  const uint8_t* mask_bool;        // nonzero = attend, or null
  int64_t mask_stride, mask_step;  // elements between query rows (0: the same for all) and between keys (0 or 1)
  bool causal;
  float scale;
  float* out;
  int64_t out_stride;
  float* scratch;  // attention_scratch_floats(...) floats, one per thread
};

// Rows of scores kept at a time. Blocks start at its multiples, so no split of the rows changes a result.
inline constexpr int64_t kAttentionBlock = 24;

int64_t attention_scratch_floats(int64_t keys, int64_t dim, int64_t value_dim);
KernelTable<AttentionArgs> attention_table();

}  // namespace taille
