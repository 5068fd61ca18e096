// gemm_s8 on AVX2 for weights whose pairs fit 16 bits: vpmaddubsw, vpmaddwd by ones and vpaddd for 32 products, where
// splitting or widening takes two of the latter two each. Many rows: 4 by 16 columns, on a strip of weights that is put
// together in scratch, since it lies in pieces of 64 bytes, 256 apart, which share a quarter of the sets of L1.
#include "kernels/avx2_s8.h"
#include "kernels/avx_s8_pairs.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr TileFunction kTiles16[] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>};
constexpr TileFunction kTiles32[] = {tile<1, 4>, tile<2, 4>};
constexpr TileFunction kTiles48[] = {tile<1, 6>};
constexpr TileFunction kTiles64[] = {tile<1, 8>};
constexpr Tiles kTiles[] = {{kTiles16, 4}, {kTiles32, 2}, {kTiles48, 1}, {kTiles64, 1}};
constexpr int64_t kManyRows = 5;  // from where copying a strip is repaid
constexpr int64_t kStripBytes = 64;

void gemm_by_strips(const GemmS8Args& g) {
  const Ends ends = ends_of(g);
  const int64_t padded = (g.taps * g.k + 3) & ~int64_t{3};
  const bool gathered = g.k % 4 != 0 || (g.offsets && g.k < kMinTap);
  const int64_t fit = kBlockBytes / (padded + 1) / kGatherRows * kGatherRows;
  const int64_t block = gathered || fit < kGatherRows ? kGatherRows : fit;
  auto* strip = reinterpret_cast<int8_t*>(g.scratch + ((kGatherRows * padded + 63) & ~int64_t{63}));
  for (int64_t i = g.m_begin; i < g.m_end; i += block) {
    const int64_t end = i + block < g.m_end ? i + block : g.m_end;
    const Rows rows = gathered ? gather(g, i, end) : Rows{g.a, 0, g.lda, g.offsets, g.taps, g.pad_row, g.k};
    for (int64_t j = g.n_begin; j < g.n_end; j += kStripBytes / 4) {
      const int64_t panel = j / kPanel * kPanel, left = g.n - panel < kPanel ? g.n - panel : kPanel;
      const int64_t step = ((left + 15) & ~int64_t{15}) * 4;
      const int8_t* b = g.packed + panel * padded + (j - panel) * 4;
      for (int64_t p = 0; p < padded / 4; ++p) __builtin_memcpy(strip + p * kStripBytes, b + p * step, kStripBytes);
      run_strip({g, ends, rows, i, j, g.n - j, strip, kStripBytes}, kTiles[0], i, end);
    }
  }
}

}  // namespace

void gemm_s8_pairs_avx2(const GemmS8Args& g) {
  const int64_t rows = g.m_end - g.m_begin;
  if (rows >= kManyRows) return gemm_by_strips(g);
  gemm_s8_run(g, kTiles, rows == 1 ? 64 : 32);
}

}  // namespace taille
