// 64 rows by 4 outputs: 16 sums, 4 of activations, and the broadcast weights.
#include "kernels/avx512_s8_vnni.h"
#include "kernels/avx512_sparse_s8_vnni.h"
// What a group is comes first.
#include "kernels/gemm_sparse_s8_tiles.h"

namespace taille {

void gemm_sparse_s8_avx512vnni(const GemmSparseS8Args& args) { gemm_sparse_s8_run<4>(args); }

}  // namespace taille
