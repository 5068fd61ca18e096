// gemm_sparse_s8 for one vector level. The kernel file first includes the level's avx*_s8.h and dot header,
// gemm_s8_tiles.h, and a header that says how a group of 4 activations is kept and multiplied:
//   kPlanes                        vectors that a group of kLanes rows takes
//   put_rows(to, step, quads)      8 rows of one group, 4 bytes each
//   multiply_block<R, NV>(..)      a block times NV vectors of rows; has Pairs to work in
//   put_row(to, quads), sums of one row: multiply_row<R>(..)
#pragma once

#include "kernels/gemm_s8_tiles.h"
#include "kernels/gemm_sparse_s8.h"

namespace taille {
namespace {

constexpr int64_t kEight = 8;  // rows that are interleaved at once
using Quads = __m256i;         // 8 times 4 bytes
typedef uint32_t Unsigned __attribute__((vector_size(kBytes)));

inline void transpose8(Quads (&v)[8]) {
  Quads a[8], b[8];
  TAILLE_UNROLL for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  TAILLE_UNROLL for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  TAILLE_UNROLL for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
  }
}

// n bytes, a multiple of 4; none is read past them.
inline Quads load_quads(const uint8_t* p, int64_t n) {
  if (n >= 32) return _mm256_loadu_si256(reinterpret_cast<const Quads*>(p));
  const Quads there =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n / 4)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), there);
}

inline Rows rows_of(const GemmS8Args& g) { return {g.a, 0, g.lda, g.offsets, g.taps, g.pad_row, g.k}; }

// `vectors` vectors of rows from i on, to panel[K/4][kPlanes][vectors]. Rows that do not exist repeat the last.
inline void interleave(const GemmS8Args& g, int64_t i, int64_t vectors, uint8_t* panel) {
  const Rows rows = rows_of(g);
  const int64_t group_bytes = kPlanes * vectors * kBytes;
  for (int64_t tap = 0; tap < g.taps; ++tap, panel += g.k / 4 * group_bytes)
    for (int64_t eight = 0; eight < vectors * kLanes; eight += kEight) {
      const uint8_t* p[8];
      for (int64_t r = 0; r < kEight; ++r) {
        const int64_t row = i + eight + r;
        p[r] = row_pointer(rows, row < g.m_end ? row : g.m_end - 1, tap);
      }
      uint8_t* to = panel + eight * 4;
      for (int64_t k = 0; k < g.k; k += 32) {
        Quads v[8];
        TAILLE_UNROLL for (int r = 0; r < 8; ++r) v[r] = load_quads(p[r] + k, g.k - k);
        transpose8(v);
        const int64_t groups = g.k - k < 32 ? (g.k - k) / 4 : 8;
        for (int64_t q = 0; q < groups; ++q, to += group_bytes) put_rows(to, vectors * kBytes, v[q]);
      }
    }
}

// Groups of 4 outputs are finished as words, a vector of rows for each, and eight such groups are written together: 32
// bytes of a row at once, where words of 4 would take longer than a shallow product. Residuals come the same way.
constexpr int64_t kTurned = 8;
template <int NV>
using Turned = uint32_t[kTurned][kLanes * NV];

// Eight words of each row, to or from eight vectors of rows; `rows` of them exist.
inline void turn_in(const uint8_t* from, int64_t step, int64_t rows, int64_t lanes, uint32_t* to) {
  for (int64_t r = 0; r < rows; r += kEight) {
    Quads v[8] = {};
    TAILLE_UNROLL for (int q = 0; q < 8; ++q) if (r + q < rows) v[q] = load_quads(from + (r + q) * step, 32);
    transpose8(v);
    TAILLE_UNROLL for (int q = 0; q < 8; ++q) _mm256_storeu_si256(reinterpret_cast<Quads*>(to + q * lanes + r), v[q]);
  }
}
inline void turn_out(const uint32_t* from, int64_t lanes, int64_t rows, int64_t step, uint8_t* to) {
  for (int64_t r = 0; r < rows; r += kEight) {
    Quads v[8];
    TAILLE_UNROLL for (int q = 0; q < 8; ++q) v[q] =
        _mm256_loadu_si256(reinterpret_cast<const Quads*>(from + q * lanes + r));
    transpose8(v);
    TAILLE_UNROLL for (int q = 0; q < 8; ++q) if (r + q < rows)
        _mm256_storeu_si256(reinterpret_cast<Quads*>(to + (r + q) * step), v[q]);
  }
}

// The residual's words for `groups` groups of 4 outputs from column j on.
template <int NV>
inline void load_turned(const GemmS8Args& g, int64_t i, int64_t j, int64_t groups, Turned<NV>& words) {
  const int64_t rows = g.m_end - i < kLanes * NV ? g.m_end - i : kLanes * NV;
  const auto* from = static_cast<const uint8_t*>(g.residual) + i * g.residual_stride + j;
  if (groups == kTurned) return turn_in(from, g.residual_stride, rows, kLanes * NV, words[0]);
  __builtin_memset(words, 0, sizeof words);
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t q = 0; q < groups; ++q) __builtin_memcpy(&words[q][t], from + t * g.residual_stride + 4 * q, 4);
}
template <int NV>
inline void store_turned(const GemmS8Args& g, int64_t i, int64_t j, int64_t groups, const Turned<NV>& words) {
  const int64_t rows = g.m_end - i < kLanes * NV ? g.m_end - i : kLanes * NV;
  uint8_t* to = static_cast<uint8_t*>(g.out) + i * g.ldc + j;
  if (groups == kTurned) return turn_out(words[0], kLanes * NV, rows, g.ldc, to);
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t q = 0; q < groups; ++q) __builtin_memcpy(to + t * g.ldc + 4 * q, &words[q][t], 4);
}

// Four outputs of NV vectors of rows, to a word for each row; `words` has the residual's.
template <int NV>
[[gnu::noinline]] void finish_words(const GemmS8Args& g, const Ends& ends, int64_t j, const Sum (&sums)[4][NV],
                                    uint32_t* words) {
  F x[4][NV];
  TAILLE_UNROLL for (int r = 0; r < 4; ++r) {
    const F scale = all_f32(g.scale[j + r]), bias = all_f32(g.bias[j + r]);
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) x[r][v] = fma(to_f32((I)sums[r][v]), scale, bias);
  }
  if (g.residual) {
    const F residual_scale = all_f32(g.residual_scale);
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      const I bytes = load_bytes(words + kLanes * v, kBytes);
      TAILLE_UNROLL for (int r = 0; r < 4; ++r) {
        const I one = and_bits((I)((Unsigned)bytes >> 8 * r), all_s32(0xFF));
        x[r][v] = fma(to_f32(one), residual_scale, x[r][v]);
      }
    }
  }
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    I q[4];
    TAILLE_UNROLL for (int r = 0; r < 4; ++r) q[r] = round_half_even(cap(x[r][v], ends.cap));
    const I bytes = transpose_bytes(pack_lanes(q[0], q[1], q[2], q[3]));
    store_bytes(words + kLanes * v, max_u8(bytes, ends.lo), kBytes);
  }
}

// The bytes of fewer outputs of each row, in the low bytes of its lane.
template <int R, int NV>
[[gnu::always_inline]] inline void store_rows_u8(const GemmS8Args& g, int64_t i, int64_t j, F (&x)[R][NV]) {
  const F lo = all_f32(g.lo), hi = all_f32(g.hi), residual_scale = all_f32(g.residual_scale);
  const int64_t rows = g.m_end - i;
  alignas(64) int32_t lanes[kLanes * NV] = {};
  const int64_t here = rows < kLanes * NV ? rows : kLanes * NV;
  if (g.residual) {
    const auto* residual = static_cast<const uint8_t*>(g.residual) + i * g.residual_stride + j;
    for (int64_t t = 0; t < here; ++t) __builtin_memcpy(lanes + t, residual + t * g.residual_stride, R);
  }
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const I bytes = load_s32(lanes + kLanes * v, kLanes);
    I out = zero();
    TAILLE_UNROLL for (int r = R - 1; r >= 0; --r) {
      if (g.residual) {
        const I one = and_bits((I)((Unsigned)bytes >> 8 * r), all_s32(0xFF));
        x[r][v] = fma(to_f32(one), residual_scale, x[r][v]);
      }
      out = add_s32((I)((Unsigned)out << 8), round_half_even(clamp(x[r][v], lo, hi)));
    }
    store_bytes(lanes + kLanes * v, out, kBytes);
  }
  uint8_t* out = static_cast<uint8_t*>(g.out) + i * g.ldc + j;
  for (int64_t t = 0; t < here; ++t) __builtin_memcpy(out + t * g.ldc, lanes + t, R);
}

template <int R, int NV>
[[gnu::always_inline]] inline void store_rows_f32(const GemmS8Args& g, int64_t i, int64_t j, F (&x)[R][NV]) {
  const F lo = all_f32(g.lo), hi = all_f32(g.hi);
  const int64_t rows = g.m_end - i, here = rows < kLanes * NV ? rows : kLanes * NV;
  const auto* residual = static_cast<const float*>(g.residual);
  float* out = static_cast<float*>(g.out) + i * g.ldc + j;
  alignas(64) float lanes[kLanes * NV] = {};
  TAILLE_UNROLL for (int r = 0; r < R; ++r) {
    if (residual)
      for (int64_t t = 0; t < here; ++t) lanes[t] = residual[(i + t) * g.residual_stride + j + r];
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      if (residual) x[r][v] = add(x[r][v], load_f32(lanes + kLanes * v, kLanes));
      store_f32(lanes + kLanes * v, clamp(x[r][v], lo, hi), kLanes);
    }
    for (int64_t t = 0; t < here; ++t) out[t * g.ldc + r] = lanes[t];
  }
}

template <int R, int NV>
[[gnu::noinline]] void finish_rows(const GemmS8Args& g, int64_t i, int64_t j, const Sum (&sums)[R][NV]) {
  F x[R][NV];
  TAILLE_UNROLL for (int r = 0; r < R; ++r) {
    const F scale = all_f32(g.scale[j + r]), bias = all_f32(g.bias[j + r]);
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) x[r][v] = fma(to_f32((I)sums[r][v]), scale, bias);
  }
  if constexpr (R < 4) {
    if (!g.out_f32) return store_rows_u8<R, NV>(g, i, j, x);
  }
  store_rows_f32<R, NV>(g, i, j, x);
}

// NV vectors of rows, all groups of R outputs in turn. Not inlined: its registers are few enough.
template <int R, int NV>
[[gnu::noinline]] void sparse_tile(const GemmSparseS8Args& args, const Ends& ends, int64_t i, const uint8_t* panel) {
  const GemmS8Args& g = args.product;
  const SparseS8& w = args.weights;
  auto& pairs = *reinterpret_cast<Pairs*>(g.scratch);
  [[maybe_unused]] alignas(64) Turned<NV> words;
  [[maybe_unused]] int64_t turned = 0;  // groups in `words`
  for (int64_t group = g.n_begin / R; group < g.n_end / R; ++group) {
    Sum acc[R][NV];
    TAILLE_UNROLL for (int r = 0; r < R; ++r) {
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = (Sum)all_s32(g.offset[group * R + r]);
    }
    const int8_t* values = w.values + int64_t{w.begin[group]} * 4 * R;
    const uint16_t *inputs = w.inputs + w.begin[group], *end = w.inputs + w.begin[group + 1];
    for (; inputs != end; ++inputs, values += 4 * R)
      multiply_block<R, NV>(acc, panel + *inputs * int64_t{kPlanes * NV * kBytes}, values, pairs);
    Sum sums[R][NV];
    TAILLE_UNROLL for (int r = 0; r < R; ++r) { TAILLE_UNROLL for (int v = 0; v < NV; ++v) sums[r][v] = acc[r][v]; }
    if constexpr (R == 4) {
      if (!g.out_f32) {
        const int64_t left = g.n_end / 4 - group + turned, here = left < kTurned ? left : kTurned;
        if (g.residual && turned == 0) load_turned<NV>(g, i, group * 4, here, words);
        finish_words<NV>(g, ends, group * 4, sums, words[turned]);
        if (++turned < here) continue;
        store_turned<NV>(g, i, (group + 1 - here) * 4, here, words);
        turned = 0;
        continue;
      }
    }
    finish_rows<R, NV>(g, i, group * R, sums);
  }
}

// One row: the sums of all columns, then their epilogue as gemm_s8 does it.
template <int R>
void sparse_row(const GemmSparseS8Args& args, const Ends& ends, int64_t i) {
  const GemmS8Args& g = args.product;
  const SparseS8& w = args.weights;
  auto* sums = reinterpret_cast<int32_t*>(g.scratch);
  uint8_t* row = g.scratch + ((4 * g.n + 63) & ~int64_t{63});
  uint8_t* to = row;
  const Rows rows = rows_of(g);
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    const uint8_t* p = row_pointer(rows, i, tap);
    for (int64_t k = 0; k < g.k; k += 32) {
      put_row(to, load_quads(p + k, g.k - k));
      to += (g.k - k < 32 ? g.k - k : 32) / 4 * kRowGroupBytes;
    }
  }
  for (int64_t group = g.n_begin / R; group < g.n_end / R; ++group)
    multiply_row<R>(row, w.inputs + w.begin[group], w.inputs + w.begin[group + 1],
                    w.values + int64_t{w.begin[group]} * 4 * R, sums + group * R);
  constexpr int64_t kColumns = 16;
  constexpr int kVectors = static_cast<int>(kColumns / kLanes);
  for (int64_t j = g.n_begin; j < g.n_end; j += kColumns) {
    const int64_t left = g.n_end - j;
    Sum acc[1][kVectors];
    TAILLE_UNROLL for (int v = 0; v < kVectors; ++v) acc[0][v] = (Sum)add_s32(
        load_s32(sums + j + kLanes * v, left - kLanes * v), load_s32(g.offset + j + kLanes * v, left - kLanes * v));
    finish_tile<1, kVectors>({g, ends, rows, i, j, left, nullptr, 0}, acc);
  }
}

template <int R, int NV>
inline void sparse_rows(const GemmSparseS8Args& args) {
  const GemmS8Args& g = args.product;
  const Ends ends = ends_of(g);
  if (g.m_end - g.m_begin <= kSparseS8FewRows) {
    for (int64_t i = g.m_begin; i < g.m_end; ++i) sparse_row<R>(args, ends, i);
    return;
  }
  uint8_t* panel = g.scratch + 64;  // behind the pairs
  for (int64_t i = g.m_begin; i < g.m_end; i += kLanes * NV) {
    const bool half = g.m_end - i <= kLanes * (NV / 2);
    interleave(g, i, half ? NV / 2 : NV, panel);
    if (half)
      sparse_tile<R, NV / 2>(args, ends, i, panel);
    else
      sparse_tile<R, NV>(args, ends, i, panel);
  }
}

template <int NV>
inline void gemm_sparse_s8_run(const GemmSparseS8Args& args) {
  if (args.weights.block_rows == 4) return sparse_rows<4, NV>(args);
  if (args.weights.block_rows == 2) return sparse_rows<2, NV>(args);
  sparse_rows<1, NV>(args);
}

}  // namespace
}  // namespace taille
