#include "kernels/vec16_avx512.h"

namespace {
constexpr int kTileVectors = 4;
constexpr int kTileRows[] = {0, 12, 12, 8, 6};
}  // namespace

#include "kernels/gemm_f32_impl.h"

namespace taille {

void gemm_f32_avx512(const GemmF32Args& g) { gemm_run(g); }

}  // namespace taille
