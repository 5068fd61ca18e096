#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/gemm_f32_impl.h"

namespace taille {

void gemm_f32_neon(const GemmF32Args& g) { gemm_run(g); }

}  // namespace taille
