// gemm_s8 on vpmaddwd alone, for CPUs without VNNI and products of enough rows. Both operands are widened to 16 bits in
// scratch, rows once per block and weights once per block and strip of 16 columns, so the inner loop is a multiply-add
// and an addition per 16 products: 32 MAC/cycle where two ports multiply, twice what is left beside splitting bytes in
// the loop. Include after avx2_s8.h, avx_s8_split.h and gemm_s8_tiles.h.
//
// Scratch, per thread (gemm_s8_scratch_bytes): rows, each a plane of pairs (byte 0, byte 2) of every group of 4 bytes
// and then a plane of pairs (1, 3), as masks and shifts leave them; one gathered row; the strip of weights in planes
// of the same kind, [plane][K/4][16 columns].
#pragma once

#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr int64_t kStripColumns = 16;

struct Widened {
  uint8_t* rows;
  uint8_t* gathered;
  uint8_t* weights;
  int64_t groups;  // of 4 bytes of K
  int64_t plane;   // bytes
};

inline Widened widened_scratch(const GemmS8Args& g, int64_t rows) {
  const int64_t k_total = g.taps * g.k, plane = gemm_s8_widened_plane(k_total);
  uint8_t* gathered = g.scratch + rows * 2 * plane;
  return {g.scratch, gathered, gathered + plane, (k_total + 3) / 4, plane};
}

// n bytes, a multiple of 4, to both planes. May write up to 28 bytes of zeros behind what it makes.
inline void widen_bytes(const uint8_t* from, int64_t n, uint8_t* even, int64_t plane) {
  for (int64_t i = 0; i < n; i += kBytes) {
    const Activations a = activations(load_bytes(from + i, n - i));
    store_bytes(even + i, a.even, kBytes);
    store_bytes(even + plane + i, a.odd, kBytes);
  }
}

inline void widen_row(const GemmS8Args& g, const Rows& rows, int64_t i, bool gathered, const Widened& w, uint8_t* to) {
  if (!gathered) {
    for (int64_t tap = 0; tap < g.taps; ++tap) widen_bytes(row_pointer(rows, i, tap), g.k, to + tap * g.k, w.plane);
    return;
  }
  for (int64_t tap = 0; tap < g.taps; ++tap) copy_over(w.gathered + tap * g.k, row_pointer(rows, i, tap), g.k);
  for (int64_t b = g.taps * g.k; b < 4 * w.groups; ++b) w.gathered[b] = 0;
  widen_bytes(w.gathered, 4 * w.groups, to, w.plane);
}

// step: bytes between groups in the packed panel
inline void widen_weights(const int8_t* b, int64_t step, const Widened& w) {
  constexpr int kVectors = static_cast<int>(4 * kStripColumns / kBytes);
  uint8_t* even = w.weights;
  const int64_t plane = w.groups * 4 * kStripColumns;
  for (int64_t p = 0; p < w.groups; ++p, b += step, even += 4 * kStripColumns)
    TAILLE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Weights two = weights(load_bytes(b + kBytes * v, kBytes));
      store_bytes(even + kBytes * v, two.even, kBytes);
      store_bytes(even + plane + kBytes * v, two.odd, kBytes);
    }
}

// A function of its own: inlined, its spills would look like those of the loop.
template <int MR, int NV>
[[gnu::noinline]] void finish_sums(const Tile& t, const Sum (&sums)[MR][NV]) {
  finish_tile<MR, NV>(t, sums);
}

template <int MR, int NV>
void tile_widened(const Tile& t, const Widened& w, const uint8_t* a) {
  Sum acc[MR][NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const Sum offset = (Sum)load_s32(t.g.offset + t.j + kLanes * v, t.columns - kLanes * v);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) acc[r][v] = offset;
  }
  const uint8_t* b = w.weights;
  for (int plane = 0; plane < 2; ++plane, a += w.plane) {
    for (int64_t k = 0; k < 4 * w.groups; k += 4, b += kBytes * NV) {
      I wide[NV];
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) wide[v] = load_bytes(b + kBytes * v, kBytes);
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
        const I x = broadcast4(a + r * 2 * w.plane + k);
        TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = (Sum)add_s32((I)acc[r][v], multiply_add_s16(x, wide[v]));
      }
    }
  }
  Sum sums[MR][NV];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) { TAILLE_UNROLL for (int v = 0; v < NV; ++v) sums[r][v] = acc[r][v]; }
  finish_sums<MR, NV>(t, sums);
}

using WidenedTile = void (*)(const Tile&, const Widened&, const uint8_t* a);

// tiles[r - 1] does r rows of kStripColumns columns.
template <int kMaxRows>
inline void gemm_s8_run_widened(const GemmS8Args& g, const WidenedTile (&tiles)[kMaxRows]) {
  const Ends ends = ends_of(g);
  const int64_t most = gemm_s8_widened_rows(g.taps * g.k) / kMaxRows * kMaxRows;
  const int64_t blocks = (g.m_end - g.m_begin + most - 1) / most;  // of nearly equal height
  const int64_t block = ((g.m_end - g.m_begin + blocks - 1) / blocks + kMaxRows - 1) / kMaxRows * kMaxRows;
  const Widened w = widened_scratch(g, block);
  const bool gathered = is_gathered(g);
  const Rows rows = rows_in_place(g);
  for (int64_t begin = g.m_begin; begin < g.m_end; begin += block) {
    const int64_t end = begin + block < g.m_end ? begin + block : g.m_end;
    for (int64_t i = begin; i < end; ++i) widen_row(g, rows, i, gathered, w, w.rows + (i - begin) * 2 * w.plane);
    for (int64_t j = g.n_begin; j < g.n_end; j += kStripColumns) {
      const int64_t panel = j / kPanel * kPanel, left = g.n - panel < kPanel ? g.n - panel : kPanel;
      const int64_t width = (left + 15) & ~int64_t{15};
      const int8_t* b = g.packed + panel * 4 * w.groups + (j - panel) * 4;
      widen_weights(b, width * 4, w);
      Tile t{g, ends, rows, begin, j, g.n - j, b, width * 4};
      for (int64_t tall = 0; t.i < end; t.i += tall) {
        const int64_t tiles_left = (end - t.i + kMaxRows - 1) / kMaxRows;
        tall = (end - t.i + tiles_left - 1) / tiles_left;
        tiles[tall - 1](t, w, w.rows + (t.i - begin) * 2 * w.plane);
      }
    }
  }
}

}  // namespace
}  // namespace taille
