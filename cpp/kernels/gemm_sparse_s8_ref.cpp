#include "kernels/gemm_s8_scalar.h"
#include "kernels/gemm_sparse_s8.h"

namespace taille {

void gemm_sparse_s8_reference(const GemmSparseS8Args& args) {
  const GemmS8Args& g = args.product;
  const SparseS8& w = args.weights;
  constexpr int kPairs[] = {0, 2, 1, 3}, kInOrder[] = {0, 1, 2, 3};
  const int (&order)[4] = w.block_rows == kSparseS8ListRows ? kInOrder : kPairs;
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      const int64_t group = j / w.block_rows, row = j % w.block_rows;
      int32_t acc = 0;
      for (uint32_t b = w.begin[group]; b < w.begin[group + 1]; ++b) {
        const int64_t at = 4 * int64_t{w.inputs[b]};
        const uint8_t* a = gemm_s8_row(g, i, at / g.k) + at % g.k;
        const int8_t* values = w.values + (b * w.block_rows + row) * 4;
        for (int p = 0; p < 4; ++p) acc += a[order[p]] * values[p];
      }
      gemm_s8_finish(g, i, j, acc);
    }
  }
}

}  // namespace taille
