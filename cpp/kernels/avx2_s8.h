// The words of avx512_s8.h for AVX2 (with FMA and BMI2); see there for the rules.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace taille {
namespace {

using I = __m256i;
using F = __m256;
constexpr int kLanes = 8;
constexpr int kBytes = 32;

inline __m256i lanes_mask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 0 ? static_cast<int>(n) : 0),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// n < 32 bytes, without reading past them.
inline I load_part(const uint8_t* p, int64_t n) {
  alignas(32) uint8_t bytes[32] = {};
  int64_t done = 0;
  if (n & 16) {
    __builtin_memcpy(bytes, p, 16);
    done = 16;
  }
  if (n & 8) {
    __builtin_memcpy(bytes + done, p + done, 8);
    done += 8;
  }
  for (; done < n; ++done) bytes[done] = p[done];
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
}
inline void store_part(uint8_t* p, I v, int64_t n) {
  alignas(32) uint8_t bytes[32];
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), v);
  int64_t done = 0;
  if (n & 16) {
    __builtin_memcpy(p, bytes, 16);
    done = 16;
  }
  if (n & 8) {
    __builtin_memcpy(p + done, bytes + done, 8);
    done += 8;
  }
  for (; done < n; ++done) p[done] = bytes[done];
}

inline I load_bytes(const void* p, int64_t n) {
  if (n >= kBytes) return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return n <= 0 ? _mm256_setzero_si256() : load_part(static_cast<const uint8_t*>(p), n);
}
inline void store_bytes(void* p, I v, int64_t n) {
  if (n >= kBytes)
    _mm256_storeu_si256(static_cast<__m256i*>(p), v);
  else if (n == 16)
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(v));
  else if (n > 0)
    store_part(static_cast<uint8_t*>(p), v, n);
}
template <int kWidth>
inline I load_pixels(const uint8_t* p, int64_t step, int64_t n) {
  if constexpr (kWidth == kBytes) return load_bytes(p, n);
  if (n == kWidth)
    return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(p + step), reinterpret_cast<const __m128i*>(p));
  return _mm256_inserti128_si256(load_part(p, n), _mm256_castsi256_si128(load_part(p + step, n)), 1);
}
template <int kWidth>
inline void store_pixels(uint8_t* p, int64_t step, I v, int64_t n, int64_t pixels) {
  store_bytes(p, v, n);
  if (kWidth < kBytes && pixels > 1) store_bytes(p + step, _mm256_castsi128_si256(_mm256_extracti128_si256(v, 1)), n);
}
inline I load_s32(const int32_t* p, int64_t n) {
  if (n >= kLanes) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_maskload_epi32(p, lanes_mask(n));
}
inline F load_f32(const float* p, int64_t n) {
  return n >= kLanes ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes_mask(n));
}
inline void store_f32(float* p, F v, int64_t n) {
  if (n >= kLanes)
    _mm256_storeu_ps(p, v);
  else
    _mm256_maskstore_ps(p, lanes_mask(n), v);
}
inline I load_u8_as_s32(const uint8_t* p, int64_t n) {
  if (n >= kLanes) return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_cvtepu8_epi32(_mm256_castsi256_si128(load_bytes(p, n)));
}
inline void copy_over(uint8_t* to, const uint8_t* from, int64_t n) {
  int64_t done = 0;
  for (; done + kBytes <= n; done += kBytes) store_bytes(to + done, load_bytes(from + done, kBytes), kBytes);
  to += done, from += done, n -= done;
  if (n >= 16) {  // two halves that may overlap
    __builtin_memcpy(to, from, 16);
    __builtin_memcpy(to + n - 16, from + n - 16, 16);
  } else if (n >= 8) {
    __builtin_memcpy(to, from, 8);
    __builtin_memcpy(to + n - 8, from + n - 8, 8);
  } else if (n >= 4) {
    __builtin_memcpy(to, from, 4);
    __builtin_memcpy(to + n - 4, from + n - 4, 4);
  } else if (n > 0) {
    to[0] = from[0];
    to[n / 2] = from[n / 2];
    to[n - 1] = from[n - 1];
  }
}
inline I broadcast4(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm256_set1_epi32(x);
}
inline void keep(I& x) { asm("" : "+v"(x)); }

inline I zero() { return _mm256_setzero_si256(); }
inline I all_s32(int32_t x) { return _mm256_set1_epi32(x); }
inline I all_bytes(uint8_t x) { return _mm256_set1_epi8(static_cast<char>(x)); }
inline F all_f32(float x) { return _mm256_set1_ps(x); }
inline I add_s32(I a, I b) { return _mm256_add_epi32(a, b); }
inline I sub_s32(I a, I b) { return _mm256_sub_epi32(a, b); }
inline I min_u8(I a, I b) { return _mm256_min_epu8(a, b); }
inline I max_u8(I a, I b) { return _mm256_max_epu8(a, b); }
inline I and_bits(I a, I b) { return _mm256_and_si256(a, b); }
template <int kShift>
inline I shift_left_16(I a) {
  return _mm256_slli_epi16(a, kShift);
}
template <int kShift>
inline I shift_right_u16(I a) {
  return _mm256_srli_epi16(a, kShift);
}
template <int kShift>
inline I shift_right_s16(I a) {
  return _mm256_srai_epi16(a, kShift);
}
// two products u8 * s8, added in 16 bits with saturation
inline I multiply_add_pairs(I a, I b) { return _mm256_maddubs_epi16(a, b); }
// two products of 16-bit halves, added in 32 bits
inline I multiply_add_s16(I a, I b) { return _mm256_madd_epi16(a, b); }
inline F to_f32(I a) { return _mm256_cvtepi32_ps(a); }
inline I round_half_even(F a) { return _mm256_cvtps_epi32(a); }
inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F min(F a, F b) { return _mm256_min_ps(a, b); }
inline F max(F a, F b) { return _mm256_max_ps(a, b); }
inline F clamp(F v, F lo, F hi) { return _mm256_min_ps(_mm256_max_ps(v, lo), hi); }
inline F cap(F v, F hi) { return _mm256_min_ps(hi, v); }

inline I interleave_low8(I a, I b) { return _mm256_unpacklo_epi8(a, b); }
inline I interleave_high8(I a, I b) { return _mm256_unpackhi_epi8(a, b); }
inline I interleave_low16(I a, I b) { return _mm256_unpacklo_epi16(a, b); }
inline I interleave_high16(I a, I b) { return _mm256_unpackhi_epi16(a, b); }

inline I pack_lanes(I a, I b, I c, I d) {
  return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}
inline I transpose_bytes(I a) {
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(order));
}
inline I pack(I a, I b, I c, I d) {
  return _mm256_permutevar8x32_epi32(pack_lanes(a, b, c, d), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
inline I low_bytes(float lo) {
  const I low = round_half_even(all_f32(lo));
  return pack_lanes(low, low, low, low);
}
inline void transpose_lanes(F (&v)[4]) {
  const F a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = _mm256_permute2f128_ps(a, b, 0x20);
  v[1] = _mm256_permute2f128_ps(c, d, 0x20);
  v[2] = _mm256_permute2f128_ps(a, b, 0x31);
  v[3] = _mm256_permute2f128_ps(c, d, 0x31);
}

using Finite = __m256;
inline Finite finite_lanes(F v, int64_t n) {
  const F infinity = _mm256_castsi256_ps(_mm256_set1_epi32(0x7F800000));
  const F magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
  return _mm256_and_ps(_mm256_cmp_ps(magnitude, infinity, _CMP_LT_OQ), _mm256_castsi256_ps(lanes_mask(n)));
}
inline F choose(Finite lanes, F yes, F no) { return _mm256_blendv_ps(no, yes, lanes); }
inline int count(Finite lanes) { return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(lanes))); }

}  // namespace
}  // namespace taille
