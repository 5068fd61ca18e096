// 16 lanes of int32 beside the floats of vec16_avx2.h. See bits16_portable.h for what each word means.
#pragma once

#include "kernels/vec16_avx2.h"

namespace {

constexpr int kLanes = 16;

struct I16 {
  __m256i lo, hi;
};

inline I16 bits(V16 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
inline I16 splat_bits(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I16 load_bits(const int32_t* p) {
  const auto* in = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(in), _mm256_loadu_si256(in + 1)};
}
inline void store_bits(int32_t* p, I16 a) {
  auto* out = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(out, a.lo);
  _mm256_storeu_si256(out + 1, a.hi);
}
inline I16 operator-(I16 a, I16 b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
inline I16 shift_right(I16 a, int count) {
  const __m128i by = _mm_cvtsi32_si128(count);
  return {_mm256_srl_epi32(a.lo, by), _mm256_srl_epi32(a.hi, by)};
}
inline I16 permute(I16 a, I16 index) {  // the instruction reads three bits of an index: the lane within the half
  return {_mm256_permutevar8x32_epi32(a.lo, index.lo), _mm256_permutevar8x32_epi32(a.hi, index.hi)};
}
inline I16 add_if_greater(I16 sum, I16 a, I16 b) {
  return {_mm256_sub_epi32(sum.lo, _mm256_cmpgt_epi32(a.lo, b.lo)),
          _mm256_sub_epi32(sum.hi, _mm256_cmpgt_epi32(a.hi, b.hi))};
}
inline uint32_t lanes_set(__m256i lo, __m256i hi) {
  const int low = _mm256_movemask_ps(_mm256_castsi256_ps(lo)), high = _mm256_movemask_ps(_mm256_castsi256_ps(hi));
  return static_cast<uint32_t>(low | high << 8);
}
inline uint32_t greater(I16 a, I16 b) {
  return lanes_set(_mm256_cmpgt_epi32(a.lo, b.lo), _mm256_cmpgt_epi32(a.hi, b.hi));
}
inline uint32_t equal(I16 a, I16 b) {
  return lanes_set(_mm256_cmpeq_epi32(a.lo, b.lo), _mm256_cmpeq_epi32(a.hi, b.hi));
}

inline void store_mask(uint8_t* p, uint32_t mask) {  // a byte of the mask to each half, then a bit of it to each byte
  const __m128i both = _mm_cvtsi32_si128(static_cast<int>(mask));
  const __m128i spread = _mm_shuffle_epi8(both, _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const __m128i bit = _mm_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m128i set = _mm_cmpeq_epi8(_mm_and_si128(spread, bit), bit);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_and_si128(set, _mm_set1_epi8(1)));
}
inline void store_mask_n(uint8_t* p, uint32_t mask, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = mask >> i & 1;
}

}  // namespace
