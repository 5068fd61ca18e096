#include "kernels/vec16_portable.h"

namespace {
constexpr int kTileVectors = 1;
constexpr int kTileRows[] = {0, 4};
}  // namespace

#include "kernels/gemm_f32_impl.h"

namespace taille {

void gemm_f32_portable(const GemmF32Args& g) { gemm_run(g); }

}  // namespace taille
