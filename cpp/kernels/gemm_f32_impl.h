// The float matrix product over V16: a tile of rows x vectors stays in registers while K advances.
//
// kTileRows[v] is the most rows of a tile v vectors wide: enough accumulators to hide the latency of fma (8 on two
// ports), few enough for the registers, and no more row pointers than general registers. A panel of B stays in L2
// while the rows advance. GCC keeps acc[][] in registers only where every loop over it is fully unrolled.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/gemm_f32.h"
#include "kernels/vec16_math.h"

namespace {

constexpr int64_t kPanel = 64;

// acc[r][v] += a[r][p] * b[p*ldb + 16 v ..] for p = 0 .. k-1
template <int MR, int NV>
[[gnu::always_inline]] inline void multiply_add(V16 (&acc)[MR][NV], const float* const (&a)[MR], const float* b,
                                                int64_t ldb, int64_t k) {
  for (int64_t p = 0; p < k; ++p, b += ldb) {
    V16 column[NV];
#pragma GCC unroll 32
    for (int v = 0; v < NV; ++v) column[v] = load(b + 16 * v);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) {
      const V16 x = splat(a[r][p]);
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
  }
}

inline const float* gemm_row(const taille::GemmF32Args& g, int64_t i, int64_t tap) {
  if (g.offsets == nullptr) return g.a + i * g.lda;
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

// bias, residual, clamp and store of one vector of `n` columns
[[gnu::always_inline]] inline void gemm_finish(const taille::GemmF32Args& g, V16 v, int64_t i, int64_t j, int64_t n) {
  const V16 zero = splat(0.0f);
  if (g.bias != nullptr) v = v + (n == 16 ? load(g.bias + j) : load_n(g.bias + j, n, zero));
  if (g.residual != nullptr) {
    const float* p = g.residual + i * g.residual_stride + j;
    v = v + (n == 16 ? load(p) : load_n(p, n, zero));
  }
  v = clamp(v, splat(g.lo), splat(g.hi));
  float* out = g.out + i * g.ldc + j;
  if (n == 16)
    store(out, v);
  else
    store_n(out, v, n);
}

template <int MR, int NV>
void gemm_tile(const taille::GemmF32Args& g, int64_t i, int64_t j, const float* b, int64_t ldb) {
  V16 acc[MR][NV];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < NV; ++v) acc[r][v] = splat(0.0f);
  for (int64_t t = 0; t < g.taps; ++t, b += g.k * ldb) {
    const float* a[MR];
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) a[r] = gemm_row(g, i + r, t);
    multiply_add(acc, a, b, ldb, g.k);
  }
  const int64_t left = g.n - j - 16 * (NV - 1);
  const int64_t last = left < 16 ? left : 16;
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < NV; ++v) gemm_finish(g, acc[r][v], i + r, j + 16 * v, v + 1 < NV ? 16 : last);
}

using GemmTile = void (*)(const taille::GemmF32Args&, int64_t, int64_t, const float*, int64_t);

template <int NV, class Rows = std::make_integer_sequence<int, kTileRows[NV]>>
struct GemmTiles;
template <int NV, int... R>
struct GemmTiles<NV, std::integer_sequence<int, R...>> {
  static constexpr GemmTile of_rows[] = {nullptr, gemm_tile<R + 1, NV>...};
};

// A strip of NV vectors of one panel, all rows. The rows are split evenly over the fewest tiles, so that no tile is
// left with one or two rows.
template <int NV>
void gemm_strip(const taille::GemmF32Args& g, int64_t j, const float* b, int64_t ldb) {
  int64_t tiles = (g.m_end - g.m_begin + kTileRows[NV] - 1) / kTileRows[NV];
  for (int64_t i = g.m_begin; i < g.m_end; --tiles) {
    const int64_t rows = (g.m_end - i + tiles - 1) / tiles;
    GemmTiles<NV>::of_rows[rows](g, i, j, b, ldb);
    i += rows;
  }
}

inline void gemm_run(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
    const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
    const int64_t vectors = (columns + 15) / 16;
    const float* panel = g.packed + j * k_total;
    for (int64_t v = 0; v < vectors;) {
      const int64_t wide = vectors - v < kTileVectors ? vectors - v : kTileVectors;
      const float* b = panel + 16 * v;
      const int64_t column = j + 16 * v;
      if (wide == 1) gemm_strip<1>(g, column, b, 16 * vectors);
      if constexpr (kTileVectors == 4) {
        if (wide == 2) gemm_strip<2>(g, column, b, 16 * vectors);
        if (wide == 3) gemm_strip<3>(g, column, b, 16 * vectors);
        if (wide == 4) gemm_strip<4>(g, column, b, 16 * vectors);
      }
      v += wide;
    }
  }
}

}  // namespace
