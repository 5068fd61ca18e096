// 32 rows by 4 outputs: 8 sums, 2 of activations, the broadcast weights and a product.
#include "kernels/avx512_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/avx_sparse_s8_split.h"
// What a group is comes first.
#include "kernels/gemm_sparse_s8_tiles.h"

namespace taille {

void gemm_sparse_s8_avx512(const GemmSparseS8Args& args) { gemm_sparse_s8_run<2>(args); }

}  // namespace taille
