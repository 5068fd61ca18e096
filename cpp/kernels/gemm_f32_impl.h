// The float matrix product with its epilogue. A panel of B stays in L2 while the rows advance. Include after one
// vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/gemm_f32.h"
#include "kernels/matmul_tile.h"
#include "kernels/vec16_math.h"

namespace {

inline const float* gemm_row(const taille::GemmF32Args& g, int64_t i, int64_t tap) {
  if (g.offsets == nullptr) return g.a + i * g.lda;
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

// bias, residual, clamp and store of one vector of `n` columns
[[gnu::always_inline]] inline void gemm_finish(const taille::GemmF32Args& g, V16 v, int64_t i, int64_t j, int64_t n) {
  if (g.bias != nullptr) v = v + load_upto(g.bias + j, n, splat(0.0f));
  if (g.residual != nullptr) v = v + load_upto(g.residual + i * g.residual_stride + j, n, splat(0.0f));
  store_upto(g.out + i * g.ldc + j, clamp(v, splat(g.lo), splat(g.hi)), n);
}

struct GemmPanel {
  const taille::GemmF32Args& g;
  int64_t column;  // the panel's first
  const float* b;
  int64_t width;
  int64_t strip;  // first vector of the strip at hand

  template <int MR, int NV>
  static void tile(const GemmPanel& s, int64_t i) {
    const taille::GemmF32Args& g = s.g;
    const float* b = s.b + 16 * s.strip;
    V16 acc[MR][NV];
    clear(acc);
    for (int64_t t = 0; t < g.taps; ++t, b += g.k * s.width) {
      const float* a[MR];
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r) a[r] = gemm_row(g, i + r, t);
      multiply_add(acc, a, b, s.width, g.k);
    }
    const int64_t j = s.column + 16 * s.strip;
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) gemm_finish(g, acc[r][v], i + r, j + 16 * v, v + 1 < NV ? 16 : g.n - j - 16 * v);
  }
};

inline void gemm_run(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
    const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
    const int64_t vectors = (columns + 15) / 16;
    strips(GemmPanel{g, j, g.packed + j * k_total, 16 * vectors, 0}, vectors, g.m_begin, g.m_end);
  }
}

}  // namespace
