#include "kernels/vec16_avx512.h"
// The vocabulary comes first.
#include "kernels/gemm_f32_impl.h"

namespace taille {

void gemm_f32_avx512(const GemmF32Args& g) { gemm_run(g); }

}  // namespace taille
