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

// What the epilogue reads for every vector: a store may change what a reference names, so it would be read again.
struct ListColumns {
  F scale[kListVectors], bias[kListVectors], residual_scale, cap;
  I lo;
};

// kTogether rows of bytes, of which `rows` exist.
[[gnu::always_inline]] inline void store_list_u8(const ListColumns& c, F (&x)[kTogether][kListVectors], int64_t rows,
                                                 const uint8_t* residual, int64_t residual_stride, uint8_t* out,
                                                 int64_t ldc) {
  if (residual) {
    TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) if (q < rows) {
      TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
        const I bytes = load_u8_as_s32(residual + q * residual_stride + kLanes * v, kLanes);
        x[q][v] = fma(to_f32(bytes), c.residual_scale, x[q][v]);
      }
    }
  }
  I q[4];
  TAILLE_UNROLL for (int v = 0; v < 4; ++v) q[v] = round_half_even(cap(x[v / kListVectors][v % kListVectors], c.cap));
  const I bytes = max_u8(pack(q[0], q[1], q[2], q[3]), c.lo);
  store_pixels<kListColumns>(out, ldc, bytes, kListColumns, rows < kTogether ? rows : kTogether);
}

inline void store_list_f32(const ListTile& t, int64_t i, F (&x)[kListVectors]) {
  const GemmS8Args& g = t.g;
  const auto* residual = static_cast<const float*>(g.residual);
  TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
    const int64_t j = t.j + kLanes * v;
    if (residual) x[v] = add(x[v], load_f32(residual + i * g.residual_stride + j, kLanes));
    store_f32(static_cast<float*>(g.out) + i * g.ldc + j, clamp(x[v], all_f32(g.lo), all_f32(g.hi)), kLanes);
  }
}

// A function of its own: inlined, its spills would look like those of the loop.
[[gnu::noinline]] void finish_list(const ListTile& t, const Sum* sums, int64_t rows) {
  const GemmS8Args& g = t.g;
  ListColumns c;
  TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
    c.scale[v] = load_f32(g.scale + t.j + kLanes * v, kLanes);
    c.bias[v] = load_f32(g.bias + t.j + kLanes * v, kLanes);
  }
  c.residual_scale = all_f32(g.residual_scale);
  c.cap = t.ends.cap;
  c.lo = t.ends.lo;
  const int64_t residual_stride = g.residual_stride, ldc = g.ldc;
  const auto* residual = static_cast<const uint8_t*>(g.residual);
  if (residual) residual += t.i * residual_stride + t.j;
  uint8_t* out = static_cast<uint8_t*>(g.out) + t.i * ldc + t.j;
  const bool out_f32 = g.out_f32;
  for (int64_t r = 0; r < rows; r += kTogether) {
    F x[kTogether][kListVectors];
    TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) {
      const int64_t row = r + q < rows ? r + q : rows - 1;
      TAILLE_UNROLL for (int v = 0; v < kListVectors; ++v) {
        x[q][v] = fma(to_f32((I)sums[row * kListVectors + v]), c.scale[v], c.bias[v]);
      }
    }
    if (!out_f32) {
      store_list_u8(c, x, rows - r, residual ? residual + r * residual_stride : nullptr, residual_stride, out + r * ldc,
                    ldc);
      continue;
    }
    TAILLE_UNROLL for (int q = 0; q < kTogether; ++q) if (r + q < rows) store_list_f32(t, t.i + r + q, x[q]);
  }
}

}  // namespace
}  // namespace taille
