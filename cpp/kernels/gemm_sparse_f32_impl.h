// The float matrix product with weights in blocks. Include after one quads_*.h.
#pragma once

#include "kernels/gemm_f32_impl.h"
#include "kernels/gemm_sparse_f32.h"

namespace {

// What one vector of rows gets of R outputs: v[r] lane i is p[i*stride + r].
template <int R>
[[gnu::always_inline]] inline void load_outputs(const float* p, int64_t stride, int64_t n, V16 (&v)[R]) {
  if constexpr (R == 4) return load_rows4(p, stride, n, v);
  alignas(64) float lanes[R][16] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int r = 0; r < R; ++r) lanes[r][i] = p[i * stride + r];
  for (int r = 0; r < R; ++r) v[r] = load(lanes[r]);
}
template <int R>
[[gnu::always_inline]] inline void store_outputs(float* p, int64_t stride, int64_t n, const V16 (&v)[R]) {
  if constexpr (R == 4) return store_rows4(p, stride, n, v);
  alignas(64) float lanes[R][16];
  for (int r = 0; r < R; ++r) store(lanes[r], v[r]);
  for (int64_t i = 0; i < n; ++i)
    for (int r = 0; r < R; ++r) p[i * stride + r] = lanes[r][i];
}

template <int R, int NV>
[[gnu::always_inline]] inline void finish_rows(const taille::GemmF32Args& g, int64_t i, int64_t j, V16 (&acc)[R][NV]) {
  const V16 lo = splat(g.lo), hi = splat(g.hi);
#pragma GCC unroll 32
  for (int v = 0; v < NV; ++v) {
    const int64_t row = i + 16 * v, left = g.m_end - row, rows = left < 16 ? left : 16;
    if (rows <= 0) return;
    V16 x[R];
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) x[r] = g.bias != nullptr ? acc[r][v] + splat(g.bias[j + r]) : acc[r][v];
    if (g.residual != nullptr) {
      V16 residual[R];
      load_outputs<R>(g.residual + row * g.residual_stride + j, g.residual_stride, rows, residual);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) x[r] = x[r] + residual[r];
    }
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) x[r] = clamp(x[r], lo, hi);
    store_outputs<R>(g.out + row * g.ldc + j, g.ldc, rows, x);
  }
}

// NV vectors of rows from i on, all groups of R outputs in turn. Not inlined: its registers are few enough.
template <int R, int NV>
[[gnu::noinline]] void sparse_tile(const taille::GemmSparseF32Args& args, int64_t i, const float* panel) {
  const taille::GemmF32Args& g = args.product;
  const taille::SparseF32& w = args.weights;
  for (int64_t group = g.n_begin / R; group < g.n_end / R; ++group) {
    V16 acc[R][NV];
    clear(acc);
    const float* values = w.values + int64_t{w.begin[group]} * 4 * R;
    const uint16_t *inputs = w.inputs + w.begin[group], *end = w.inputs + w.begin[group + 1];
    for (; inputs != end; ++inputs, values += 4 * R) {
      const float* x = panel + *inputs * int64_t{4 * 16 * NV};
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        V16 rows[NV];
#pragma GCC unroll 32
        for (int v = 0; v < NV; ++v) rows[v] = load(x + 16 * (p * NV + v));
#pragma GCC unroll 32
        for (int r = 0; r < R; ++r) {
          const V16 one = splat(values[p * R + r]);
#pragma GCC unroll 32
          for (int v = 0; v < NV; ++v) acc[r][v] = fma(one, rows[v], acc[r][v]);
        }
      }
    }
    finish_rows<R, NV>(g, i, group * R, acc);
  }
}

// `NV` vectors of rows from i on, to panel[K][NV]. Rows that do not exist are 0.
template <int NV>
inline void interleave(const taille::GemmF32Args& g, int64_t i, float* panel) {
  for (int64_t tap = 0; tap < g.taps; ++tap)
    for (int64_t v = 0; v < NV; ++v) {
      const int64_t first = i + 16 * v, left = g.m_end - first;
      const float* row[16] = {};
      for (int64_t r = 0; r < 16 && r < left; ++r) row[r] = gemm_row(g, first + r, tap);
      transpose_rows([&](int64_t r) { return row[r]; }, left, g.k, panel + (tap * g.k * NV + v) * 16, 16 * NV);
    }
}

// As many vectors as there are rows, at most NV.
template <int R, int NV>
inline void tile_from(const taille::GemmSparseF32Args& args, int64_t i) {
  if constexpr (NV > 1) {
    if (args.product.m_end - i <= 16 * (NV / 2)) return tile_from<R, NV / 2>(args, i);
  }
  interleave<NV>(args.product, i, args.product.scratch);
  sparse_tile<R, NV>(args, i, args.product.scratch);
}

// A group of outputs whose sums for M rows are on their way.
template <int M>
struct Stream {
  const uint16_t* inputs;
  const float* values;
  int64_t left, group;
  V4 sums[M];
};

// The next `steps` blocks of G streams at once: one alone would wait for its sums.
template <int R, int M, int G>
inline void advance(Stream<M>* streams, const float* const (&rows)[M], int64_t steps) {
  V4 sums[G][M];
  const uint16_t* inputs[G];
  const float* values[G];
#pragma GCC unroll 4
  for (int s = 0; s < G; ++s) {
    inputs[s] = streams[s].inputs;
    values[s] = streams[s].values;
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sums[s][m] = streams[s].sums[m];
  }
  for (int64_t t = 0; t < steps; ++t) {
#pragma GCC unroll 4
    for (int s = 0; s < G; ++s) {
      const float* block = values[s] + t * (4 * R);
      const int64_t at = 4 * int64_t{inputs[s][t]};
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const V4 x = load4<4>(rows[m] + at);
        sums[s][m] = fma_lane<0>(load4<R>(block), x, sums[s][m]);
        sums[s][m] = fma_lane<1>(load4<R>(block + R), x, sums[s][m]);
        sums[s][m] = fma_lane<2>(load4<R>(block + 2 * R), x, sums[s][m]);
        sums[s][m] = fma_lane<3>(load4<R>(block + 3 * R), x, sums[s][m]);
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < G; ++s) {
    streams[s].inputs += steps;
    streams[s].values += steps * (4 * R);
    streams[s].left -= steps;
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) streams[s].sums[m] = sums[s][m];
  }
}

// Of `open` streams the first G, or fewer where there are not so many, until one of them ends.
template <int R, int M, int G>
inline void advance_some(Stream<M>* streams, int open, const float* const (&rows)[M]) {
  if constexpr (G > 1) {
    if (open < G) return advance_some<R, M, G / 2>(streams, open, rows);
  }
  int64_t steps = streams[0].left;
  for (int s = 1; s < G; ++s) steps = streams[s].left < steps ? streams[s].left : steps;
  advance<R, M, G>(streams, rows, steps);
}

// sums[m][n] of all columns for M rows of K floats. Several groups of outputs are on their way, and make chains of
// additions that hide some of the latency of fma; where one ends, the next takes its place. For one row 8 are slower
// than 4: so many streams of weights are not foreseen by the hardware, and each end stops them all.
template <int R, int M>
inline void sums_of_rows(const taille::GemmSparseF32Args& args, const float* const (&rows)[M], float* sums) {
  constexpr int kStreams = M <= 2 ? 4 : 2;
  const taille::GemmF32Args& g = args.product;
  const taille::SparseF32& w = args.weights;
  Stream<M> streams[kStreams];
  int open = 0;
  int64_t next = g.n_begin / R;
  for (;;) {
    for (; open < kStreams && next < g.n_end / R; ++next)
      streams[open++] = {w.inputs + w.begin[next],
                         w.values + int64_t{w.begin[next]} * 4 * R,
                         int64_t{w.begin[next + 1]} - w.begin[next],
                         next,
                         {}};
    if (open == 0) return;
    advance_some<R, M, kStreams>(streams, open, rows);
    for (int s = open - 1; s >= 0; --s) {
      if (streams[s].left > 0) continue;
      for (int m = 0; m < M; ++m) {
        alignas(16) float lanes[4];
        store4(lanes, streams[s].sums[m]);
        for (int r = 0; r < R; ++r) sums[m * g.n + streams[s].group * R + r] = lanes[r];
      }
      streams[s] = streams[--open];
    }
  }
}

// M rows from i on: their sums, then their epilogue as gemm_f32 does it.
template <int R, int M>
inline void few_rows(const taille::GemmSparseF32Args& args, int64_t i) {
  const taille::GemmF32Args& g = args.product;
  const float* rows[M];
  float *sums = g.scratch, *to = sums + M * g.n;
  for (int m = 0; m < M; ++m) {
    rows[m] = gemm_row(g, i + m, 0);
    if (g.taps == 1) continue;
    rows[m] = to;
    for (int64_t tap = 0; tap < g.taps; ++tap, to += g.k) {
      const float* from = gemm_row(g, i + m, tap);
      for_vectors(g.k, [&](int64_t k, int64_t n) { store_upto(to + k, load_upto(from + k, n, splat(0.0f)), n); });
    }
  }
  sums_of_rows<R, M>(args, rows, sums);
  for (int m = 0; m < M; ++m)
    for_vectors(g.n_end - g.n_begin, [&](int64_t j, int64_t n) {
      const int64_t column = g.n_begin + j;
      gemm_finish(g, load_upto(sums + m * g.n + column, n, splat(0.0f)), i + m, column, n);
    });
}

template <int R>
inline void sparse_rows(const taille::GemmSparseF32Args& args) {
  const taille::GemmF32Args& g = args.product;
  const int64_t rows = g.m_end - g.m_begin;
  static_assert(taille::kSparseF32FewRows == 4);
  if (rows == 1) return few_rows<R, 1>(args, g.m_begin);
  if (rows == 2) return few_rows<R, 2>(args, g.m_begin);
  if (rows == 3) return few_rows<R, 3>(args, g.m_begin);
  if (rows == 4) return few_rows<R, 4>(args, g.m_begin);
  constexpr int kVectors = kSparseSums / R < 4 ? kSparseSums / R : 4;
  for (int64_t i = g.m_begin; i < g.m_end; i += 16 * kVectors) tile_from<R, kVectors>(args, i);
}

inline void sparse_run(const taille::GemmSparseF32Args& args) {
  if (args.weights.block_rows == 4) return sparse_rows<4>(args);
  if (args.weights.block_rows == 2) return sparse_rows<2>(args);
  sparse_rows<1>(args);
}

}  // namespace
