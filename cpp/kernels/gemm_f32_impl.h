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

// Part of the taps * k steps that an output is summed over. Sums wait in `out` from one block to the next: they are
// float32 there as in a register, so blocks change no bit.
struct GemmDepth {
  int64_t tap, within;  // where it begins
  int64_t steps;
  bool first, last;
};

template <class B>
struct GemmPanel {
  const taille::GemmF32Args& g;
  int64_t column;  // the panel's first
  const B* b;      // from the block's first step on
  int64_t width;
  GemmDepth depth;
  int64_t strip;  // first vector of the strip at hand

  template <int MR, int NV>
  static void tile(const GemmPanel& s, int64_t i) {
    const taille::GemmF32Args& g = s.g;
    const int64_t j = s.column + 16 * s.strip;
    V16 acc[MR][NV];
    clear(acc);
    if (!s.depth.first) {
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
        for (int v = 0; v < NV; ++v)
          acc[r][v] = load_upto(g.out + (i + r) * g.ldc + j + 16 * v, v + 1 < NV ? 16 : g.n - j - 16 * v, splat(0.0f));
    }
    accumulate(s, i, acc);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) {
        const int64_t n = v + 1 < NV ? 16 : g.n - j - 16 * v;
        if (s.depth.last)
          gemm_finish(g, acc[r][v], i + r, j + 16 * v, n);
        else
          store_upto(g.out + (i + r) * g.ldc + j + 16 * v, acc[r][v], n);
      }
  }

  template <int MR, int NV>
  [[gnu::always_inline]] static void accumulate(const GemmPanel& s, int64_t i, V16 (&acc)[MR][NV]) {
    const B* b = s.b + 16 * s.strip;
    int64_t within = s.depth.within, left = s.depth.steps;
    for (int64_t t = s.depth.tap; left > 0; ++t) {
      const int64_t steps = s.g.k - within < left ? s.g.k - within : left;
      const float* a[MR];
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r) a[r] = gemm_row(s.g, i + r, t) + within;
      multiply_add(acc, a, b, s.width, steps);
      b += steps * s.width;
      left -= steps;
      within = 0;
    }
  }
};

// Panels of float32, and of 16-bit weights where there are too few rows for widening to pay.
template <class B>
inline void gemm_direct(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
    const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
    const int64_t vectors = (columns + 15) / 16;
    const B* panel = static_cast<const B*>(g.packed) + j * k_total;
    strips(GemmPanel<B>{g, j, panel, 16 * vectors, {0, 0, k_total, true, true}, 0}, vectors, g.m_begin, g.m_end);
  }
}

// Blocks of 16-bit panels, widened into the scratch for all rows.
template <class B>
inline void gemm_widened(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
    const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
    const int64_t vectors = (columns + 15) / 16, width = 16 * vectors;
    const B* panel = static_cast<const B*>(g.packed) + j * k_total;
    int64_t begin = 0;
    do {  // at least once, for the epilogue
      const int64_t left = k_total - begin;
      const int64_t steps = left < taille::kGemmF32DepthBlock ? left : taille::kGemmF32DepthBlock;
      for (int64_t i = 0; i < steps * width; i += 16) store(g.scratch + i, load(panel + begin * width + i));
      const GemmDepth depth{g.k ? begin / g.k : 0, g.k ? begin % g.k : 0, steps, begin == 0, steps == left};
      strips(GemmPanel<float>{g, j, g.scratch, width, depth, 0}, vectors, g.m_begin, g.m_end);
      begin += steps;
    } while (begin < k_total);
  }
}

template <class Half>
inline void gemm_half(const taille::GemmF32Args& g) {
  if (g.m_end - g.m_begin <= taille::kGemmF32DirectRows)
    gemm_direct<Half>(g);
  else
    gemm_widened<Half>(g);
}

inline void gemm_run(const taille::GemmF32Args& g) {
  if (g.packed_type == taille::DType::f16) return gemm_half<taille::F16>(g);
  if (g.packed_type == taille::DType::bf16) return gemm_half<taille::BF16>(g);
  gemm_direct<float>(g);
}

}  // namespace
