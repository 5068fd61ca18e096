#include <cmath>

#include "kernels/gemm_sparse_f32.h"

namespace taille {

void gemm_sparse_f32_reference(const GemmSparseF32Args& args) {
  const GemmF32Args& g = args.product;
  const SparseF32& w = args.weights;
  for (int64_t i = g.m_begin; i < g.m_end; ++i)
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      const int64_t group = j / w.block_rows, row = j % w.block_rows;
      float v = 0;
      for (uint32_t b = w.begin[group]; b < w.begin[group + 1]; ++b) {
        const int64_t at = 4 * int64_t{w.inputs[b]};
        const int32_t offset = g.offsets ? g.offsets[i * g.taps + at / g.k] : 0;
        const float* a = g.offsets ? (offset < 0 ? g.pad_row : g.a + offset) : g.a + i * g.lda;
        const float* values = w.values + 4 * int64_t{b} * w.block_rows + row;
        for (int p = 0; p < 4; ++p) v = std::fma(a[at % g.k + p], values[p * w.block_rows], v);
      }
      if (g.bias) v += g.bias[j];
      if (g.residual) v += g.residual[i * g.residual_stride + j];
      if (g.lo > v) v = g.lo;
      if (g.hi < v) v = g.hi;
      g.out[i * g.ldc + j] = v;
    }
}

}  // namespace taille
