// Skip lists on vpmaddwd, for CPUs without VNNI; as gemm_s8_widened.h. Rows are widened to pairs of 16 bits in scratch,
// a block at a time, and the kept weights of a strip of 16 columns once per block, or in the loop where one tile has
// all rows. Include after avx_s8_split.h, avx_sparse_s8_split.h and gemm_sparse_s8_lists.h.
//
// Scratch, per thread (gemm_s8_scratch_bytes): rows, kRowGroupBytes for each group of 4 inputs, the pair (0, 2) and the
// pair (1, 3); the weights of a strip in planes of the same pairs, [plane][kept][16 columns].
#pragma once

#include "kernels/gemm_sparse_s8_lists.h"

namespace taille {
namespace {

inline void widen_list(const int8_t* values, int64_t groups, int8_t* to) {
  const int64_t plane = groups * kListBlockBytes;
  for (int64_t p = 0; p < groups; ++p, values += kListBlockBytes, to += kListBlockBytes)
    TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
      const Weights w = weights(load_bytes(values + v * kBytes, kBytes));
      store_bytes(to + v * kBytes, w.even, kBytes);
      store_bytes(to + plane + v * kBytes, w.odd, kBytes);
    }
}

// The weights of one plane: as widen_list left them, or from the bytes.
template <int kPlane, bool kWidened>
[[gnu::always_inline]] inline I list_weights(const int8_t* values) {
  I w = load_bytes(values, kBytes);
  if constexpr (!kWidened) w = kPlane == 0 ? weights(w).even : weights(w).odd;
  asm("" : "+v"(w));  // loaded once: GCC would rather load them again for every row
  return w;
}

template <int kPlane, bool kWidened, int MR>
[[gnu::always_inline]] inline void multiply_plane(Sum (&acc)[MR][kListVectors], const ListTile& t) {
  const int8_t* values = t.values + (kWidened ? kPlane * (t.end - t.inputs) * kListBlockBytes : 0);
  const int64_t stride = t.stride;
  for (const uint16_t* input = t.inputs; input != t.end; ++input, values += kListBlockBytes) {
    I wide[kListVectors];
    TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) wide[v] = list_weights<kPlane, kWidened>(values + v * kBytes);
    const uint8_t* a = t.a + *input * kRowGroupBytes + 4 * kPlane;
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      if (r > 0 && r % 4 == 0) {
        a += 4 * stride;
        asm("" : "+r"(a));  // else GCC keeps every multiple of the stride, more than there are registers
      }
      const I pair = broadcast4(a + r % 4 * stride);
      TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
        acc[r][v] = (Sum)add_s32((I)acc[r][v], multiply_add_s16(pair, wide[v]));
      }
    }
  }
}

template <int MR, bool kWidened>
void multiply_list(const ListTile& t) {
  Sum acc[MR][kListVectors];
  TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
    const Sum offset = (Sum)load_s32(t.g.offset + t.j + kLanes * v, kLanes);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) acc[r][v] = offset;
  }
  multiply_plane<0, kWidened>(acc, t);
  multiply_plane<1, kWidened>(acc, t);
  Sum sums[MR][kListVectors];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) sums[r][v] = acc[r][v];
  }
  finish_list(t, sums[0], MR);
}

// The pairs of a row. May write up to 56 bytes behind them, which the next row or the stride has room for.
inline void widen_list_row(const GemmS8Args& g, const Rows& rows, int64_t i, uint8_t* to) {
  for (int64_t tap = 0; tap < g.taps; ++tap, to += g.k / 4 * kRowGroupBytes) {
    const uint8_t* p = row_pointer(rows, i, tap);
    for (int64_t k = 0; k < g.k; k += 32) put_row(to + k / 4 * kRowGroupBytes, load_quads(p + k, g.k - k));
  }
}

// Of weights in the loop, and of widened ones.
template <int kMaxRows>
inline void gemm_sparse_s8_run_lists(const GemmSparseS8Args& args, const ListFunction (&functions)[kMaxRows],
                                     const ListFunction (&widened)[kMaxRows]) {
  const GemmS8Args& g = args.product;
  const Ends ends = ends_of(g);
  const Rows rows = rows_of(g);
  const int64_t k_total = g.taps * g.k, stride = 2 * gemm_s8_widened_plane(k_total);
  const int64_t most = gemm_s8_widened_rows(k_total) / kMaxRows * kMaxRows;
  auto* wide = reinterpret_cast<int8_t*>(g.scratch + most * stride);
  list_rows(g.m_begin, g.m_end, most, [&](int64_t begin, int64_t count) {
    for (int64_t r = 0; r < count; ++r) widen_list_row(g, rows, begin + r, g.scratch + r * stride);
    for (int64_t j = g.n_begin; j < g.n_end; j += kListColumns) {
      ListTile t = list_tile(args, ends, begin, j, g.scratch, stride);
      if (count <= kMaxRows) {
        functions[count - 1](t);
        continue;
      }
      widen_list(t.values, t.end - t.inputs, wide);
      t.values = wide;
      list_rows(begin, begin + count, kMaxRows, [&](int64_t i, int64_t tall) {
        t.i = i;
        t.a = g.scratch + (i - begin) * stride;
        widened[tall - 1](t);
      });
    }
  });
}

}  // namespace
}  // namespace taille
