// 4 rows by 16 columns: 8 sums, 4 halves of weights, 2 of activations and the mask fill 15 of 16 registers.
#include "kernels/avx2_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr TileFunction kTiles16[] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>};
constexpr Tiles kTiles[] = {{kTiles16, 4}};

}  // namespace

void gemm_s8_avx2(const GemmS8Args& g) { gemm_s8_run(g, kTiles, 16); }

}  // namespace taille
