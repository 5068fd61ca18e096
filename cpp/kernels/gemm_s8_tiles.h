// gemm_s8 for one vector level. The kernel file first includes the level's *_s8.h and dot header, then this, and
// lists its tiles: tile<MR, NV> does MR rows by NV vectors of columns with all sums in registers.
//
// Rows are read where they lie, 4 bytes broadcast at a time. Rows whose taps are not whole groups of 4 bytes (or are
// very short) are first gathered into scratch, kGatherRows at a time, padded with zeros.
//
// Order: a block of rows that stays in L2, then a panel of 64 columns, then the rows of the block tile by tile, so
// that the panel stays in L1 or L2. Every accumulator loop is unrolled in full; GCC keeps the array on the stack
// otherwise (2.2 times slower).
#pragma once

#define TAILLE_UNROLL _Pragma("GCC unroll 32")

#include "kernels/gemm_s8.h"

namespace taille {
namespace {

// The type of a sum. Not I: GCC 12 keeps a second copy of every sum where its uses differ in the lanes' type
// (I has 64-bit lanes), and then runs out of registers.
typedef int32_t Sum __attribute__((vector_size(kBytes)));

constexpr int64_t kPanel = 64;
constexpr int64_t kGatherRows = 48;          // a multiple of every tile height; see gemm_s8_scratch_bytes
constexpr int64_t kMinTap = 16;              // shorter taps are gathered
constexpr int64_t kBlockBytes = 512 * 1024;  // of activations

// Where rows come from: the caller's tensor, or scratch. Row i is at a + (i - first) * lda where offsets is null.
struct Rows {
  const uint8_t* a;
  int64_t first;
  int64_t lda;
  const int32_t* offsets;
  int64_t taps;
  const uint8_t* pad_row;
  int64_t k;  // bytes per tap, a multiple of 4
};

// Of the output's clamp, made once per call: as bytes, and hi as a float.
struct Ends {
  I lo, hi;
  F cap;
};

inline Ends ends_of(const GemmS8Args& g) { return {low_bytes(g.lo), low_bytes(g.hi), all_f32(g.hi)}; }

struct Tile {
  const GemmS8Args& g;
  const Ends& ends;
  Rows rows;
  int64_t i, j;     // first row and column
  int64_t columns;  // that exist; the tile may be wider
  const int8_t* b;  // packed weights of column j
  int64_t b_step;   // bytes between groups of 4
};
using TileFunction = void (*)(const Tile&);

// The tiles of one width: functions[r - 1] does r rows.
struct Tiles {
  const TileFunction* functions;
  int64_t max_rows;
};

inline const uint8_t* row_pointer(const Rows& rows, int64_t i, int64_t tap) {
  if (!rows.offsets) return rows.a + (i - rows.first) * rows.lda;
  const int32_t offset = rows.offsets[i * rows.taps + tap];
  return offset < 0 ? rows.pad_row : rows.a + offset;
}

// One group of 4 bytes of every row. Where there are 16 registers, they keep the fewer of rows and weights.
template <int MR, int NV>
[[gnu::always_inline]] inline void step(Sum (&acc)[MR][NV], const uint8_t* const (&p)[MR], int64_t k, const int8_t* b) {
  if constexpr (MR >= NV || kBytes > 32) {
    Weights w[NV];
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) w[v] = weights(load_bytes(b + kBytes * v, kBytes));
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      const Activations a = activations(broadcast4(p[r] + k));
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = (Sum)dot((I)acc[r][v], a, w[v]);
    }
  } else {
    Activations a[MR];
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) a[r] = activations(broadcast4(p[r] + k));
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      const Weights w = weights(load_bytes(b + kBytes * v, kBytes));
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) acc[r][v] = (Sum)dot((I)acc[r][v], a[r], w);
    }
  }
}

template <int MR, int NV>
[[gnu::always_inline]] inline void store_u8(const Tile& t, F (&x)[MR][NV]) {
  const GemmS8Args& g = t.g;
  const F residual_scale = all_f32(g.residual_scale);
  const auto* residual = static_cast<const uint8_t*>(g.residual);
  uint8_t* out = static_cast<uint8_t*>(g.out) + t.i * g.ldc + t.j;
  if (residual) residual += t.i * g.residual_stride + t.j;
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    if (residual) {
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
        const I bytes = load_u8_as_s32(residual + kLanes * v, t.columns - kLanes * v);
        x[r][v] = fma(to_f32(bytes), residual_scale, x[r][v]);
      }
      residual += g.residual_stride;
    }
    I q[4] = {zero(), zero(), zero(), zero()};
    if (g.bounded) {
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) q[v] = round_half_even(x[r][v]);
    } else {
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) q[v] = round_half_even(cap(x[r][v], t.ends.cap));
    }
    const I bytes = min_u8(max_u8(pack(q[0], q[1], q[2], q[3]), t.ends.lo), t.ends.hi);
    store_bytes(out, bytes, t.columns < kLanes * NV ? t.columns : kLanes * NV);
    out += g.ldc;
  }
}

template <int MR, int NV>
[[gnu::always_inline]] inline void store_f32(const Tile& t, F (&x)[MR][NV]) {
  const GemmS8Args& g = t.g;
  const F lo = all_f32(g.lo), hi = all_f32(g.hi);
  const auto* residual = static_cast<const float*>(g.residual);
  float* out = static_cast<float*>(g.out) + t.i * g.ldc + t.j;
  if (residual) residual += t.i * g.residual_stride + t.j;
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      const int64_t left = t.columns - kLanes * v;
      if (residual) x[r][v] = add(x[r][v], load_f32(residual + kLanes * v, left));
      store_f32(out + kLanes * v, clamp(x[r][v], lo, hi), left);
    }
    if (residual) residual += g.residual_stride;
    out += g.ldc;
  }
}

// From whole sums to the output, as many columns at a time as fill a vector of bytes.
template <int MR, int NV>
[[gnu::always_inline]] inline void finish_tile(const Tile& t, const Sum (&acc)[MR][NV]) {
  constexpr int kFilled = kBytes / kLanes;
  if constexpr (NV > kFilled) {
    Sum some[MR][kFilled], rest[MR][NV - kFilled];
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      TAILLE_UNROLL for (int v = 0; v < kFilled; ++v) some[r][v] = acc[r][v];
      TAILLE_UNROLL for (int v = kFilled; v < NV; ++v) rest[r][v - kFilled] = acc[r][v];
    }
    finish_tile<MR, kFilled>(t, some);
    Tile right = t;
    right.j += kBytes;
    right.columns -= kBytes;
    finish_tile<MR, NV - kFilled>(right, rest);
    return;
  }
  F x[MR][NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const F scale = load_f32(t.g.scale + t.j + kLanes * v, t.columns - kLanes * v);
    const F bias = load_f32(t.g.bias + t.j + kLanes * v, t.columns - kLanes * v);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) x[r][v] = fma(to_f32((I)acc[r][v]), scale, bias);
  }
  if (t.g.out_f32)
    store_f32<MR, NV>(t, x);
  else
    store_u8<MR, NV>(t, x);
}

template <int MR, int NV>
void tile(const Tile& t) {
  // Few sums need more than one set, used by turns, to fill the time that dot waits for the sum before.
  constexpr int kSets = MR * NV >= kSumsInFlight ? 1 : 2 * MR * NV >= kSumsInFlight ? 2 : 3;
  Sum acc[kSets][MR][NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const Sum offset = (Sum)load_s32(t.g.offset + t.j + kLanes * v, t.columns - kLanes * v);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      acc[0][r][v] = offset;
      TAILLE_UNROLL for (int s = 1; s < kSets; ++s) acc[s][r][v] = Sum{};
    }
  }
  const int8_t* b = t.b;
  for (int64_t tap = 0; tap < t.rows.taps; ++tap) {
    const uint8_t* p[MR];
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) p[r] = row_pointer(t.rows, t.i + r, tap);
    int64_t k = 0;
    for (; k + 4 * kSets <= t.rows.k; k += 4 * kSets) {
      TAILLE_UNROLL for (int s = 0; s < kSets; ++s) step<MR, NV>(acc[s], p, k + 4 * s, b + s * t.b_step);
      b += kSets * t.b_step;
    }
    if constexpr (kSets > 1) {
      for (; k < t.rows.k; k += 4, b += t.b_step) step<MR, NV>(acc[0], p, k, b);
    }
  }
  TAILLE_UNROLL for (int s = 1; s < kSets; ++s) {
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[0][r][v] += acc[s][r][v];
    }
  }
  finish_tile<MR, NV>(t, acc[0]);
}

inline Rows gather(const GemmS8Args& g, int64_t begin, int64_t end) {
  const int64_t k = g.k, k_total = g.taps * k, padded = (k_total + 3) & ~int64_t{3};
  uint8_t* to = g.scratch;
  for (int64_t i = begin; i < end; ++i, to += padded) {
    if (g.offsets) {
      const int32_t* offsets = g.offsets + i * g.taps;
      for (int64_t tap = 0; tap < g.taps; ++tap)
        copy_over(to + tap * k, offsets[tap] < 0 ? g.pad_row : g.a + offsets[tap], k);
    } else {
      copy_over(to, g.a + i * g.lda, k);
    }
    for (int64_t b = k_total; b < padded; ++b) to[b] = 0;
  }
  return {g.scratch, begin, padded, nullptr, 1, nullptr, padded};
}

// Rows begin .. end of one strip of columns, in tiles of equal height as far as possible.
inline void run_strip(Tile t, const Tiles& tiles, int64_t begin, int64_t end) {
  int64_t left = (end - begin + tiles.max_rows - 1) / tiles.max_rows;
  for (t.i = begin; t.i < end; --left) {
    const int64_t rows = (end - t.i + left - 1) / left;
    tiles.functions[rows - 1](t);
    t.i += rows;
  }
}

inline bool is_gathered(const GemmS8Args& g) { return g.k % 4 != 0 || (g.offsets && g.k < kMinTap); }
inline Rows rows_in_place(const GemmS8Args& g) { return {g.a, 0, g.lda, g.offsets, g.taps, g.pad_row, g.k}; }
inline int64_t rows_in_block(const GemmS8Args& g, bool gathered) {
  const int64_t padded = (g.taps * g.k + 3) & ~int64_t{3};
  const int64_t fit = kBlockBytes / (padded + 1) / kGatherRows * kGatherRows;
  return gathered || fit < kGatherRows ? kGatherRows : fit;
}

// tiles[c - 1] are those of 16*c columns; `strip` (a multiple of 16) is the widest.
inline void gemm_s8_run(const GemmS8Args& g, const Tiles* tiles, int64_t strip) {
  const Ends ends = ends_of(g);
  const int64_t padded = (g.taps * g.k + 3) & ~int64_t{3};
  const bool gathered = is_gathered(g);
  const int64_t block = rows_in_block(g, gathered);
  for (int64_t i = g.m_begin; i < g.m_end; i += block) {
    const int64_t end = i + block < g.m_end ? i + block : g.m_end;
    const Rows rows = gathered ? gather(g, i, end) : rows_in_place(g);
    for (int64_t panel = g.n_begin; panel < g.n_end; panel += kPanel) {
      const int64_t columns = g.n - panel < kPanel ? g.n - panel : kPanel;
      const int64_t width = (columns + 15) & ~int64_t{15};
      for (int64_t c = 0; c < width; c += strip) {
        const int64_t wide = width - c < strip ? width - c : strip;
        const Tile t{g, ends, rows, i, panel + c, columns - c, g.packed + panel * padded + c * 4, width * 4};
        run_strip(t, tiles[wide / 16 - 1], i, end);
      }
    }
  }
}

}  // namespace
}  // namespace taille
