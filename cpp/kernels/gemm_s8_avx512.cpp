// Strips of 32 columns: the halves of the weights (4 registers) and 16 sums fit.
#include "kernels/avx512_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr TileFunction kTiles16[] = {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>,
                                     tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>};
constexpr TileFunction kTiles32[] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>,
                                     tile<5, 2>, tile<6, 2>, tile<7, 2>, tile<8, 2>};
constexpr Tiles kTiles[] = {{kTiles16, 8}, {kTiles32, 8}};

}  // namespace

void gemm_s8_avx512(const GemmS8Args& g) { gemm_s8_run(g, kTiles, 32); }

}  // namespace taille
