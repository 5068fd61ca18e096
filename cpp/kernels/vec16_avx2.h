// The vector vocabulary for AVX2: 16 float lanes in two registers. See vec16_portable.h for what each word means.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/half.h"

namespace {

constexpr int kVectorsLive = 4;  // V16 accumulators that fit in registers beside their operands
// Tiles of a matrix product: the widest of many rows in vectors, and the most rows by width. At least 8 accumulators
// hide the latency of fma; rows need a general register each.
constexpr int kTileVectors = 1;
constexpr int kTileRows[] = {0, 6, 2, 1, 1};
constexpr int kRowSteps = 1;

struct V16 {
  __m256 lo, hi;
};
struct M16 {
  __m256 lo, hi;
};

inline __m256 first_lanes(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}

inline V16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline V16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline V16 load_n(const float* p, int64_t n, V16 fill) {
  const __m256 lo = first_lanes(n);
  const __m256 hi = first_lanes(n - 8);
  return {_mm256_blendv_ps(fill.lo, _mm256_maskload_ps(p, _mm256_castps_si256(lo)), lo),
          _mm256_blendv_ps(fill.hi, _mm256_maskload_ps(p + 8, _mm256_castps_si256(hi)), hi)};
}
inline void store(float* p, V16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void store_n(float* p, V16 a, int64_t n) {
  _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(n)), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(first_lanes(n - 8)), a.hi);
}
inline void store_bytes(uint8_t* p, V16 a) {
  const __m256i lo = _mm256_cvtps_epi32(a.lo), hi = _mm256_cvtps_epi32(a.hi);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xD8);
  const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(low, high));
}
inline void store_clamped(uint8_t* p, const V16 (&v)[4]) {
  const auto rounded = [](__m256 a) { return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255.0f), a)); };
#pragma GCC unroll 2
  for (int i = 0; i < 4; i += 2) {  // a NaN and what is below int32 become the least int32; packing clamps to 0
    const __m256i low = _mm256_packs_epi32(rounded(v[i].lo), rounded(v[i].hi));
    const __m256i high = _mm256_packs_epi32(rounded(v[i + 1].lo), rounded(v[i + 1].hi));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16 * i), packed);
  }
}
inline int32_t sum_bytes(const uint8_t* p, int64_t n) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i sum = zero;
  for (; n >= 32; n -= 32, p += 32)
    sum = _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), zero));
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  auto total = static_cast<int32_t>(_mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))));
  for (int64_t i = 0; i < n; ++i) total += p[i];
  return total;
}

inline V16 load(const taille::F16* p) {
  const auto* in = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(in)), _mm256_cvtph_ps(_mm_loadu_si128(in + 1))};
}
inline V16 load(const taille::BF16* p) {
  const auto* in = reinterpret_cast<const __m128i*>(p);
  const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(in)), hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(in + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
inline void store(taille::F16* p, V16 a) {
  auto* out = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(out, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(out + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m256i upper_halves(__m256 a) {  // rounded; a NaN made quiet
  const __m256i bits = _mm256_castps_si256(a), up = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(up, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i quiet = _mm256_or_si256(up, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), quiet, nan);
}
inline void store(taille::BF16* p, V16 a) {
  const __m256i packed = _mm256_packus_epi32(upper_halves(a.lo), upper_halves(a.hi));  // quarters in the order 0 2 1 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}

inline V16 operator+(V16 a, V16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline V16 operator-(V16 a, V16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline V16 operator*(V16 a, V16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline V16 operator/(V16 a, V16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline V16 fma(V16 a, V16 b, V16 c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline V16 sqrt(V16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline V16 min(V16 a, V16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline V16 max(V16 a, V16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }

inline V16 negate(V16 a) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.lo, bit), _mm256_xor_ps(a.hi, bit)};
}
inline V16 absolute(V16 a) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(bit, a.lo), _mm256_andnot_ps(bit, a.hi)};
}
inline V16 copy_sign(V16 magnitude, V16 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  const V16 m = absolute(magnitude);
  return {_mm256_or_ps(m.lo, _mm256_and_ps(bit, sign.lo)), _mm256_or_ps(m.hi, _mm256_and_ps(bit, sign.hi))};
}

inline M16 less(V16 a, V16 b) { return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)}; }
inline M16 less_equal(V16 a, V16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)};
}
inline M16 is_nan(V16 a) { return {_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)}; }
inline M16 both(M16 a, M16 b) { return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)}; }
inline V16 select(M16 m, V16 a, V16 b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

inline __m256 add_exponent(__m256 a, __m256 n) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted));
}
inline V16 add_exponent(V16 a, V16 n) { return {add_exponent(a.lo, n.lo), add_exponent(a.hi, n.hi)}; }
inline void split_exponent(__m256 x, __m256& mantissa, __m256& exponent) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i e = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3F3504F3)), 23);
  mantissa = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)));
  exponent = _mm256_cvtepi32_ps(e);
}
inline void split_exponent(V16 x, V16& mantissa, V16& exponent) {
  split_exponent(x.lo, mantissa.lo, exponent.lo);
  split_exponent(x.hi, mantissa.hi, exponent.hi);
}

// to[d*width + j] = from[j*stride + d] for 8 x 8: pairs, quadruples, halves
inline void transpose8(const __m256 (&row)[8], float* to, int64_t width, int64_t count) {
  __m256 pair[8], quad[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
#pragma GCC unroll 8
  for (int d = 0; d < 8; ++d) {
    const __m256 low = quad[d % 4], high = quad[d % 4 + 4];  // the immediates stand alone: GCC wants them at -O0 too
    const __m256 column = d < 4 ? _mm256_permute2f128_ps(low, high, 0x20) : _mm256_permute2f128_ps(low, high, 0x31);
    if (d < count) _mm256_storeu_ps(to + d * width, column);
  }
}
template <class Row>
inline void transpose_rows(Row row, int64_t rows, int64_t dim, float* to, int64_t width) {
  for (int64_t d = 0; d < dim; d += 8)
    for (int64_t half = 0; half < 16; half += 8) {
      const __m256i lanes = _mm256_castps_si256(first_lanes(dim - d));
      __m256 eight[8];
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j)
        eight[j] = half + j < rows ? _mm256_maskload_ps(row(half + j) + d, lanes) : _mm256_setzero_ps();
      transpose8(eight, to + d * width + half, width, dim - d);
    }
}
inline void transpose16(const float* from, int64_t stride, int64_t rows, int64_t dim, float* to, int64_t width) {
  transpose_rows([=](int64_t j) { return from + j * stride; }, rows, dim, to, width);
}

// What is moved are registers, whatever lies in them; stride and width must be whole floats.
inline void transpose16_bits(const uint8_t* from, int64_t stride, int64_t rows, int64_t dim, uint8_t* to,
                             int64_t width) {
  transpose16(reinterpret_cast<const float*>(from), stride / 4, rows, dim, reinterpret_cast<float*>(to), width / 4);
}

inline float reduce_add(V16 a) {
  const __m256 h = _mm256_add_ps(a.lo, a.hi);
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float reduce_max(V16 a) {
  const __m256 h = _mm256_max_ps(a.lo, a.hi);
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

}  // namespace
