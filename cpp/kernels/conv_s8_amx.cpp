// conv_s8 in AMX's tiles. Pixels are numbered on a grid that is wider than the output: either as wide as the padded
// image, where a tile may run from one row into the next (its pixels stay equally far apart in memory), or a whole
// number of tiles wide. Pixels of the grid beyond the output's width are computed and thrown away.
#include "kernels/amx_s8.h"
#include "kernels/conv_s8.h"

namespace taille {
namespace {

int64_t grid_width(const ConvS8Args& g) {
  const int64_t tiles = (g.width + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t image = g.row_stride % g.product.lda == 0 ? g.row_stride / g.product.lda : tiles;
  return image < tiles ? image : tiles;
}

// Pixels of the grid from `at` on; those of row y begin at pixel y * grid.
struct GridRows {
  const ConvS8Args& g;
  int64_t grid, at;

  RowTile tile(int64_t row) const {
    const int64_t y = (at + row) / grid, x = (at + row) % grid;
    return {g.product.a + y * g.row_stride + x * g.product.lda, g.product.lda};
  }
  // f(first pixel of this block, its output row, how many) for each run of pixels that exist.
  template <class F>
  void runs(int64_t count, const F& f) const {
    for (int64_t done = 0; done < count;) {
      const int64_t y = (at + done) / grid, x = (at + done) % grid;
      const int64_t here = grid - x < count - done ? grid - x : count - done;
      const int64_t real = g.width - x < here ? g.width - x : here;
      if (real > 0) f(done, y * g.width + x, real);
      done += here;
    }
  }
};

}  // namespace

void conv_s8_amx(const ConvS8Args& g) {
  const GemmS8Args& p = g.product;
  Steps steps = steps_of(p.k);
  steps.taps = p.taps;
  steps.tap_stride = g.tap_stride;
  const int64_t grid = grid_width(g);
  configure(steps);
  Product product(p, steps);
  for (int64_t panel = p.n_begin; panel < p.n_end; panel += kPanel)
    for (int64_t at = p.m_begin * grid; at < p.m_end * grid; at += 2 * kTileRows) {
      const int64_t left = p.m_end * grid - at;
      product.block(GridRows{g, grid, at}, left < 2 * kTileRows ? left : 2 * kTileRows, panel, at == p.m_begin * grid);
    }
  _tile_release();
}

}  // namespace taille
