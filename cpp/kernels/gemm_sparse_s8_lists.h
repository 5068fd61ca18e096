// gemm_sparse_s8 on skip lists (kSparseS8ListRows), for one vector level: what both ways of multiplying share. Include
// after gemm_sparse_s8_tiles.h, and then gemm_sparse_s8_lists_vnni.h or gemm_sparse_s8_lists_widened.h.
//
// A list is the dense kernel's loop over the groups of 4 inputs that are kept: rows are read row by row, 4 bytes
// broadcast at a time, and a vector is 16 columns of one row. So nothing is interleaved, and one row or many are the
// same loop.
#pragma once

#include "kernels/gemm_sparse_s8_tiles.h"

namespace taille {
namespace {

constexpr int64_t kListColumns = kSparseS8ListRows;
constexpr int kListVectors = static_cast<int>(kListColumns / kLanes);
constexpr int kTogether = static_cast<int>(kBytes / kListColumns);  // rows whose columns fill a vector of bytes
constexpr int64_t kListBlockBytes = 4 * kListColumns;

struct ListTile {
  const GemmS8Args& g;
  const Ends& ends;
  int64_t i, j;      // first row and column
  const uint8_t* a;  // row i; the next ones are `stride` bytes apart
  int64_t stride;
  const uint16_t *inputs, *end;  // the groups that are kept
  const int8_t* values;          // and their weights
};
using ListFunction = void (*)(const ListTile&);  // functions[r - 1] does r rows

inline ListTile list_tile(const GemmSparseS8Args& args, const Ends& ends, int64_t i, int64_t j, const uint8_t* a,
                          int64_t stride) {
  const SparseS8& w = args.weights;
  const uint32_t* list = w.begin + j / kListColumns;
  return {args.product,
          ends,
          i,
          j,
          a,
          stride,
          w.inputs + list[0],
          w.inputs + list[1],
          w.values + int64_t{list[0]} * kListBlockBytes};
}

// Calls body(i, rows) for tiles of at most `most` rows, of equal height as far as possible.
template <class Body>
inline void list_rows(int64_t begin, int64_t end, int64_t most, const Body& body) {
  int64_t left = (end - begin + most - 1) / most;
  for (int64_t i = begin, rows; i < end; i += rows, --left) {
    rows = (end - i + left - 1) / left;
    body(i, rows);
  }
}

using ListOutputs = F[kTogether][kListVectors];

inline void store_list_u8(const ListTile& t, int64_t r, int64_t rows, ListOutputs& x) {
  const GemmS8Args& g = t.g;
  if (g.residual) {
    const auto* residual = static_cast<const uint8_t*>(g.residual) + (t.i + r) * g.residual_stride + t.j;
    const F scale = all_f32(g.residual_scale);
    TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) if (q < rows) {
      TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
        const I bytes = load_u8_as_s32(residual + q * g.residual_stride + kLanes * v, kLanes);
        x[q][v] = fma(to_f32(bytes), scale, x[q][v]);
      }
    }
  }
  I q[4];
  TAILLE_UNROLL for (int v = 0; v < 4; ++v) {
    const F one = x[v / kListVectors][v % kListVectors];
    q[v] = round_half_even(g.bounded ? one : cap(one, t.ends.cap));
  }
  const I bytes = min_u8(max_u8(pack(q[0], q[1], q[2], q[3]), t.ends.lo), t.ends.hi);
  uint8_t* out = static_cast<uint8_t*>(g.out) + (t.i + r) * g.ldc + t.j;
  store_pixels<kListColumns>(out, g.ldc, bytes, kListColumns, rows < kTogether ? rows : kTogether);
}

inline void store_list_f32(const ListTile& t, int64_t r, int64_t rows, ListOutputs& x) {
  const GemmS8Args& g = t.g;
  const F lo = all_f32(g.lo), hi = all_f32(g.hi);
  const auto* residual = static_cast<const float*>(g.residual);
  TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) if (q < rows) {
    const int64_t i = t.i + r + q;
    TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
      const int64_t j = t.j + kLanes * v;
      if (residual) x[q][v] = add(x[q][v], load_f32(residual + i * g.residual_stride + j, kLanes));
      store_f32(static_cast<float*>(g.out) + i * g.ldc + j, clamp(x[q][v], lo, hi), kLanes);
    }
  }
}

// A function of its own: inlined, its spills would look like those of the loop.
[[gnu::noinline]] void finish_list(const ListTile& t, const Sum* sums, int64_t rows) {
  F scale[kListVectors], bias[kListVectors];
  TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
    scale[v] = load_f32(t.g.scale + t.j + kLanes * v, kLanes);
    bias[v] = load_f32(t.g.bias + t.j + kLanes * v, kLanes);
  }
  for (int64_t r = 0; r < rows; r += kTogether) {
    ListOutputs x;
    TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) {
      const int64_t row = r + q < rows ? r + q : rows - 1;
      TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
        x[q][v] = fma(to_f32((I)sums[row * kListVectors + v]), scale[v], bias[v]);
      }
    }
    if (t.g.out_f32)
      store_list_f32(t, r, rows - r, x);
    else
      store_list_u8(t, r, rows - r, x);
  }
}

}  // namespace
}  // namespace taille
