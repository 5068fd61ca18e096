#include "kernels/quads_neon.h"
// The vocabulary comes first.
#include "kernels/gemm_sparse_f32_impl.h"

namespace taille {

void gemm_sparse_f32_neon(const GemmSparseF32Args& args) { sparse_run(args); }

}  // namespace taille
