// The vector vocabulary for AVX-512: 16 float lanes in one register. See vec16_portable.h for what each word means.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/half.h"

namespace {

constexpr int kVectorsLive = 16;  // V16 accumulators that fit in registers beside their operands
// Tiles of a matrix product: the widest in vectors, and the most rows by width. At least 8 accumulators hide the
// latency of fma; rows need a general register each.
constexpr int kTileVectors = 4;
constexpr int kTileRows[] = {0, 12, 12, 8, 6};
constexpr int kRowSteps = 1;

struct V16 {
  __m512 v;
};
struct M16 {
  __mmask16 m;
};

// The unmasked forms of some intrinsics start from an undefined register, of which GCC 12 warns; these do not.
constexpr __mmask16 kAllLanes = 0xFFFF;

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline V16 splat(float x) { return {_mm512_set1_ps(x)}; }
inline V16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline V16 load_n(const float* p, int64_t n, V16 fill) { return {_mm512_mask_loadu_ps(fill.v, first_lanes(n), p)}; }
inline void store(float* p, V16 a) { _mm512_storeu_ps(p, a.v); }
inline void store_n(float* p, V16 a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
inline void store_bytes(uint8_t* p, V16 a) {
  const __m512i rounded = _mm512_maskz_cvtps_epi32(kAllLanes, a.v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(kAllLanes, rounded));
}
inline void store_clamped(uint8_t* p, const V16 (&v)[4]) {
  __m512i q[4];  // a NaN and what is below int32 become the least int32; packing clamps to 0
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    q[i] = _mm512_maskz_cvtps_epi32(kAllLanes, _mm512_maskz_min_ps(kAllLanes, _mm512_set1_ps(255.0f), v[i].v));
  const __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_maskz_permutexvar_epi32(kAllLanes, order, packed));
}
inline int32_t sum_bytes(const uint8_t* p, int64_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (; n > 0; n -= 64, p += 64) {
    const __m512i bytes = n >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8((1ull << n) - 1, p);
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(bytes, _mm512_setzero_si512()));
  }
  const __m256i half =
      _mm256_add_epi64(_mm512_maskz_extracti64x4_epi64(0xF, sum, 0), _mm512_maskz_extracti64x4_epi64(0xF, sum, 1));
  const __m128i quarter = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  return static_cast<int32_t>(_mm_cvtsi128_si64(_mm_add_epi64(quarter, _mm_unpackhi_epi64(quarter, quarter))));
}

inline V16 load(const taille::F16* p) {
  return {_mm512_maskz_cvtph_ps(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline V16 load(const taille::BF16* p) {
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAllLanes, wide, 16))};
}
inline void store(taille::F16* p, V16 a) {
  const __m256i half = _mm512_maskz_cvtps_ph(kAllLanes, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half);
}
inline void store(taille::BF16* p, V16 a) {  // rounded; a NaN made quiet
  const __m512i bits = _mm512_castps_si512(a.v), up = _mm512_maskz_srli_epi32(kAllLanes, bits, 16);
  const __m512i odd = _mm512_and_si512(up, _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i rounded = _mm512_maskz_srli_epi32(kAllLanes, sum, 16);
  const __m512i all = _mm512_mask_or_epi32(rounded, nan, up, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(kAllLanes, all));
}

inline V16 operator+(V16 a, V16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline V16 operator-(V16 a, V16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline V16 operator*(V16 a, V16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline V16 operator/(V16 a, V16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline V16 fma(V16 a, V16 b, V16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline V16 sqrt(V16 a) { return {_mm512_maskz_sqrt_ps(kAllLanes, a.v)}; }
inline V16 min(V16 a, V16 b) { return {_mm512_maskz_min_ps(kAllLanes, a.v, b.v)}; }
inline V16 max(V16 a, V16 b) { return {_mm512_maskz_max_ps(kAllLanes, a.v, b.v)}; }

inline V16 negate(V16 a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
inline V16 absolute(V16 a) { return {_mm512_maskz_andnot_ps(kAllLanes, _mm512_set1_ps(-0.0f), a.v)}; }
inline V16 copy_sign(V16 magnitude, V16 sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_maskz_andnot_ps(kAllLanes, bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}

inline M16 less(V16 a, V16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline M16 less_equal(V16 a, V16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline M16 is_nan(V16 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
inline M16 both(M16 a, M16 b) { return {static_cast<__mmask16>(a.m & b.m)}; }
inline V16 select(M16 m, V16 a, V16 b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }

inline V16 add_exponent(V16 a, V16 n) {
  const __m512i shifted = _mm512_maskz_slli_epi32(kAllLanes, _mm512_castps_si512(n.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), shifted))};
}
inline void split_exponent(V16 x, V16& mantissa, V16& exponent) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i e = _mm512_maskz_srai_epi32(kAllLanes, _mm512_sub_epi32(bits, _mm512_set1_epi32(0x3F3504F3)), 23);
  mantissa.v = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_maskz_slli_epi32(kAllLanes, e, 23)));
  exponent.v = _mm512_maskz_cvtepi32_ps(kAllLanes, e);
}

// Four rounds of swaps: elements, pairs, then quarters and halves of the registers.
template <class Row>
inline void transpose_rows(Row row, int64_t rows, int64_t dim, float* to, int64_t width) {
  for (int64_t d = 0; d < dim; d += 16) {
    const __mmask16 lanes = first_lanes(dim - d < 16 ? dim - d : 16);
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) a[j] = j < rows ? _mm512_maskz_loadu_ps(lanes, row(j) + d) : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
      b[i] = _mm512_maskz_unpacklo_ps(kAllLanes, a[i], a[i + 1]);
      b[i + 1] = _mm512_maskz_unpackhi_ps(kAllLanes, a[i], a[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {  // a[i + c]: column c of each quarter, for rows i .. i+3
      a[i] = _mm512_maskz_shuffle_ps(kAllLanes, b[i], b[i + 2], 0x44);
      a[i + 1] = _mm512_maskz_shuffle_ps(kAllLanes, b[i], b[i + 2], 0xEE);
      a[i + 2] = _mm512_maskz_shuffle_ps(kAllLanes, b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm512_maskz_shuffle_ps(kAllLanes, b[i + 1], b[i + 3], 0xEE);
    }
#pragma GCC unroll 16
    for (int c = 0; c < 4; ++c) {  // quarter q holds column 4q + c
      const __m512 low01 = _mm512_maskz_shuffle_f32x4(kAllLanes, a[c], a[c + 4], 0x44);
      const __m512 low23 = _mm512_maskz_shuffle_f32x4(kAllLanes, a[c], a[c + 4], 0xEE);
      const __m512 high01 = _mm512_maskz_shuffle_f32x4(kAllLanes, a[c + 8], a[c + 12], 0x44);
      const __m512 high23 = _mm512_maskz_shuffle_f32x4(kAllLanes, a[c + 8], a[c + 12], 0xEE);
      b[c] = _mm512_maskz_shuffle_f32x4(kAllLanes, low01, high01, 0x88);
      b[c + 4] = _mm512_maskz_shuffle_f32x4(kAllLanes, low01, high01, 0xDD);
      b[c + 8] = _mm512_maskz_shuffle_f32x4(kAllLanes, low23, high23, 0x88);
      b[c + 12] = _mm512_maskz_shuffle_f32x4(kAllLanes, low23, high23, 0xDD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      if (d + i < dim) _mm512_storeu_ps(to + (d + i) * width, b[i]);
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
  const __m256 h =
      _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, a.v, 0), _mm512_maskz_extractf32x8_ps(0xFF, a.v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float reduce_max(V16 a) {
  const __m256 h =
      _mm256_max_ps(_mm512_maskz_extractf32x8_ps(0xFF, a.v, 0), _mm512_maskz_extractf32x8_ps(0xFF, a.v, 1));
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

}  // namespace
