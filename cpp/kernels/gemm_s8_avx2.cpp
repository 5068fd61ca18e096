// Many rows: 6 by 16 columns of widened operands, 12 sums, 2 of weights, the row's pair and a product in 16 registers.
// One row by 64 columns, two by 32, bytes split in the loop: 8 sums, up to 4 halves of activations, 2 of weights and
// the mask.
#include "kernels/avx2_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/gemm_s8_tiles.h"
// The tiles come first.
#include "kernels/gemm_s8_widened.h"

namespace taille {
namespace {

constexpr TileFunction kTiles16[] = {tile<1, 2>, tile<2, 2>};
constexpr TileFunction kTiles32[] = {tile<1, 4>, tile<2, 4>};
constexpr TileFunction kTiles48[] = {tile<1, 6>};
constexpr TileFunction kTiles64[] = {tile<1, 8>};
constexpr Tiles kTiles[] = {{kTiles16, 2}, {kTiles32, 2}, {kTiles48, 1}, {kTiles64, 1}};
constexpr WidenedTile kWidenedTiles[] = {tile_widened<1, 2>, tile_widened<2, 2>, tile_widened<3, 2>,
                                         tile_widened<4, 2>, tile_widened<5, 2>, tile_widened<6, 2>};
constexpr int64_t kManyRows = 5;  // from where widening the weights is repaid

}  // namespace

void gemm_s8_pairs_avx2(const GemmS8Args&);

void gemm_s8_avx2(const GemmS8Args& g) {
  if (g.pairs_fit) return gemm_s8_pairs_avx2(g);
  const int64_t rows = g.m_end - g.m_begin;
  if (rows >= kManyRows) return gemm_s8_run_widened(g, kWidenedTiles);
  gemm_s8_run(g, kTiles, rows == 1 ? 64 : 32);
}

}  // namespace taille
