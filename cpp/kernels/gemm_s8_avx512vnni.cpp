// About 24 sums in registers whatever the width: 6x64, 8x48, 12x32 and 16x16.
#include "kernels/avx512_s8_vnni.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr TileFunction kTiles16[] = {tile<1, 1>,  tile<2, 1>,  tile<3, 1>,  tile<4, 1>,  tile<5, 1>,  tile<6, 1>,
                                     tile<7, 1>,  tile<8, 1>,  tile<9, 1>,  tile<10, 1>, tile<11, 1>, tile<12, 1>,
                                     tile<13, 1>, tile<14, 1>, tile<15, 1>, tile<16, 1>};
constexpr TileFunction kTiles32[] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>,  tile<5, 2>,  tile<6, 2>,
                                     tile<7, 2>, tile<8, 2>, tile<9, 2>, tile<10, 2>, tile<11, 2>, tile<12, 2>};
constexpr TileFunction kTiles48[] = {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>,
                                     tile<5, 3>, tile<6, 3>, tile<7, 3>, tile<8, 3>};
constexpr TileFunction kTiles64[] = {tile<1, 4>, tile<2, 4>, tile<3, 4>, tile<4, 4>, tile<5, 4>, tile<6, 4>};
constexpr Tiles kTiles[] = {{kTiles16, 16}, {kTiles32, 12}, {kTiles48, 8}, {kTiles64, 6}};

}  // namespace

void gemm_s8_avx512vnni(const GemmS8Args& g) { gemm_s8_run(g, kTiles, 64); }

}  // namespace taille
