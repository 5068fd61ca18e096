// The plain specification in double; the scores of a row live in the scratch.
#include <cmath>

#include "kernels/attention.h"

namespace taille {
namespace {

double score(const AttentionArgs& g, int64_t i, int64_t j) {
  if (g.causal && j > i) return -HUGE_VAL;
  if (g.mask_bool && !g.mask_bool[i * g.mask_stride + j * g.mask_step]) return -HUGE_VAL;
  double s = 0;
  for (int64_t d = 0; d < g.dim; ++d)
    s += static_cast<double>(g.q[i * g.q_stride + d]) * static_cast<double>(g.k[j * g.k_stride + d]);
  s *= g.scale;
  return g.mask ? s + g.mask[i * g.mask_stride + j * g.mask_step] : s;
}

}  // namespace

void attention_reference(const AttentionArgs& g) {
  for (int64_t i = g.q_begin; i < g.q_end; ++i) {
    double top = -HUGE_VAL;
    for (int64_t j = 0; j < g.keys; ++j) top = std::fmax(top, score(g, i, j));
    if (top == -HUGE_VAL) top = 0;
    double sum = 0;
    for (int64_t j = 0; j < g.keys; ++j) {
      const double e = std::exp(score(g, i, j) - top);
      g.scratch[j] = static_cast<float>(e);
      sum += e;
    }
    for (int64_t c = 0; c < g.value_dim; ++c) {
      double v = 0;
      for (int64_t j = 0; j < g.keys; ++j) v += static_cast<double>(g.scratch[j]) * g.v[j * g.v_stride + c];
      g.out[i * g.out_stride + c] = static_cast<float>(sum == 0 ? 0 : v / sum);
    }
  }
}

}  // namespace taille
