// copy with transposes in registers: 16x16 and 8x16 bytes, 8x8 dwords, and 3 planes into pixels of 3. Where a size is
// no multiple of the block, the last block overlaps the one before.
#include <immintrin.h>

#include "kernels/movement_transpose.h"

namespace taille {
namespace {

#define TAILLE_UNROLL _Pragma("GCC unroll 16")

constexpr int64_t kTile = 256;  // rows whose columns are done before the next: their cache lines stay in L1

inline __m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline void store16(uint8_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }

// One round of a transpose of 16 rows: row i and row i + kRows/2 are interleaved to rows 2i and 2i + 1. After as many
// rounds as halve 16 to 1, each row has become a column.
template <int kRows>
inline void interleave_halves(__m128i (&v)[kRows]) {
  __m128i to[kRows];
  TAILLE_UNROLL for (int i = 0; i < kRows / 2; ++i) {
    to[2 * i] = _mm_unpacklo_epi8(v[i], v[i + kRows / 2]);
    to[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + kRows / 2]);
  }
  TAILLE_UNROLL for (int i = 0; i < kRows; ++i) v[i] = to[i];
}

struct Block16x16 {
  static constexpr int64_t kRows = 16, kColumns = 16;
  static void run(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride) {
    __m128i v[16];
    TAILLE_UNROLL for (int i = 0; i < 16; ++i) v[i] = load16(in + i * in_stride);
    interleave_halves(v);
    interleave_halves(v);
    interleave_halves(v);
    interleave_halves(v);
    TAILLE_UNROLL for (int i = 0; i < 16; ++i) store16(out + i * out_stride, v[i]);
  }
};

struct Block8x16 {
  static constexpr int64_t kRows = 8, kColumns = 16;
  static void run(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride) {
    __m128i v[8];
    TAILLE_UNROLL for (int i = 0; i < 8; ++i) v[i] = load16(in + i * in_stride);
    interleave_halves(v);
    interleave_halves(v);
    interleave_halves(v);
    TAILLE_UNROLL for (int i = 0; i < 8; ++i) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 2 * i * out_stride), v[i]);
      _mm_storeh_pd(reinterpret_cast<double*>(out + (2 * i + 1) * out_stride), _mm_castsi128_pd(v[i]));
    }
  }
};

struct Block8x8Dwords {
  static constexpr int64_t kRows = 8, kColumns = 8;
  static void run(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
    __m256 a[8], b[8];
    TAILLE_UNROLL for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(in + i * in_stride);
    TAILLE_UNROLL for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    TAILLE_UNROLL for (int i = 0; i < 8; i += 4) {  // a[i + c]: column c of each half, for rows i .. i+3
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    TAILLE_UNROLL for (int c = 0; c < 4; ++c) {
      _mm256_storeu_ps(out + c * out_stride, _mm256_permute2f128_ps(a[c], a[c + 4], 0x20));
      _mm256_storeu_ps(out + (c + 4) * out_stride, _mm256_permute2f128_ps(a[c], a[c + 4], 0x31));
    }
  }
};

// Sizes must not be below the block's.
template <class Block, class T>
bool by_blocks(const TransposeArgs& g) {
  const auto* in = static_cast<const T*>(g.in);
  auto* out = static_cast<T*>(g.out);
  for (int64_t tile = 0; tile < g.rows; tile += kTile) {
    const int64_t end = g.rows - tile < kTile ? g.rows : tile + kTile;
    for (int64_t c0 = 0; c0 < g.columns; c0 += Block::kColumns) {
      const int64_t c = c0 + Block::kColumns <= g.columns ? c0 : g.columns - Block::kColumns;
      for (int64_t r0 = tile; r0 < end; r0 += Block::kRows) {
        const int64_t r = r0 + Block::kRows <= g.rows ? r0 : g.rows - Block::kRows;
        Block::run(in + r * g.in_stride + c, g.in_stride, out + c * g.out_stride + r, g.out_stride);
      }
    }
  }
  return true;
}

// Byte i of the third `part` of 48 bytes comes from plane (16*part + i) % 3, place (16*part + i) / 3.
inline __m128i third_of_pixels(const __m128i (&planes)[3], int part) {
  __m128i found = _mm_setzero_si128();
  TAILLE_UNROLL for (int plane = 0; plane < 3; ++plane) {
    alignas(16) int8_t places[16] = {};
    TAILLE_UNROLL for (int i = 0; i < 16; ++i) places[i] =
        (16 * part + i) % 3 == plane ? static_cast<int8_t>((16 * part + i) / 3) : int8_t{-1};
    found =
        _mm_or_si128(found, _mm_shuffle_epi8(planes[plane], _mm_load_si128(reinterpret_cast<const __m128i*>(places))));
  }
  return found;
}

bool pixels_of_3_bytes(const TransposeArgs& g) {
  const auto* in = static_cast<const uint8_t*>(g.in);
  auto* out = static_cast<uint8_t*>(g.out);
  for (int64_t c0 = 0; c0 < g.columns; c0 += 16) {
    const int64_t c = c0 + 16 <= g.columns ? c0 : g.columns - 16;
    const __m128i planes[3] = {load16(in + c), load16(in + g.in_stride + c), load16(in + 2 * g.in_stride + c)};
    TAILLE_UNROLL for (int part = 0; part < 3; ++part) store16(out + 3 * c + 16 * part, third_of_pixels(planes, part));
  }
  return true;
}

// Every third element is in place after a rotation of each plane by its own step.
bool pixels_of_3_dwords(const TransposeArgs& g) {
  const auto* in = static_cast<const float*>(g.in);
  auto* out = static_cast<float*>(g.out);
  // Element i of third `part` of 24 comes from plane (8*part + i) % 3, place (8*part + i) / 3.
  const __m256i places[3] = {_mm256_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2), _mm256_setr_epi32(2, 3, 3, 3, 4, 4, 4, 5),
                             _mm256_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7)};
  for (int64_t c0 = 0; c0 < g.columns; c0 += 8) {
    const int64_t c = c0 + 8 <= g.columns ? c0 : g.columns - 8;
    const __m256 x = _mm256_loadu_ps(in + c), y = _mm256_loadu_ps(in + g.in_stride + c),
                 z = _mm256_loadu_ps(in + 2 * g.in_stride + c);
    const auto third = [&](int part, __m256 first, __m256 second, __m256 last) {
      const __m256 a = _mm256_permutevar8x32_ps(first, places[part]),
                   b = _mm256_permutevar8x32_ps(second, places[part]), d = _mm256_permutevar8x32_ps(last, places[part]);
      _mm256_storeu_ps(out + 3 * c + 8 * part, _mm256_blend_ps(_mm256_blend_ps(a, b, 0x92), d, 0x24));
    };
    third(0, x, y, z);
    third(1, z, x, y);
    third(2, y, z, x);
  }
  return true;
}

bool transpose_bytes(const TransposeArgs& g) {
  if (g.rows == 3 && g.out_stride == 3 && g.columns >= 16) return pixels_of_3_bytes(g);
  if (g.columns < 16 || g.rows < 8) return false;
  return g.rows < 16 ? by_blocks<Block8x16, uint8_t>(g) : by_blocks<Block16x16, uint8_t>(g);
}

bool transpose_dwords(const TransposeArgs& g) {
  if (g.rows == 3 && g.out_stride == 3 && g.columns >= 8) return pixels_of_3_dwords(g);
  return g.rows >= 8 && g.columns >= 8 && by_blocks<Block8x8Dwords, float>(g);
}

}  // namespace

void copy_avx2(const CopyArgs& g) { copy_with(g, {transpose_bytes, transpose_dwords}); }

}  // namespace taille
