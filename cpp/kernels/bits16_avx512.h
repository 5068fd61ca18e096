// 16 lanes of int32 beside the floats of vec16_avx512.h. See bits16_portable.h for what each word means.
#pragma once

#include "kernels/vec16_avx512.h"

namespace {

constexpr int kLanes = 16;

struct I16 {
  __m512i v;
};

inline I16 bits(V16 a) { return {_mm512_castps_si512(a.v)}; }
inline I16 splat_bits(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I16 load_bits(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_bits(int32_t* p, I16 a) { _mm512_storeu_si512(p, a.v); }
inline I16 operator-(I16 a, I16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I16 shift_right(I16 a, int count) { return {_mm512_maskz_srl_epi32(kAllLanes, a.v, _mm_cvtsi32_si128(count))}; }
inline I16 permute(I16 a, I16 index) { return {_mm512_maskz_permutexvar_epi32(kAllLanes, index.v, a.v)}; }
inline I16 add_if_greater(I16 sum, I16 a, I16 b) {
  return {_mm512_mask_add_epi32(sum.v, _mm512_cmpgt_epi32_mask(a.v, b.v), sum.v, _mm512_set1_epi32(1))};
}
inline uint32_t greater(I16 a, I16 b) { return _mm512_cmpgt_epi32_mask(a.v, b.v); }
inline uint32_t equal(I16 a, I16 b) { return _mm512_cmpeq_epi32_mask(a.v, b.v); }

inline void store_mask(uint8_t* p, uint32_t mask) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_maskz_set1_epi8(static_cast<__mmask16>(mask), 1));
}
inline void store_mask_n(uint8_t* p, uint32_t mask, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = mask >> i & 1;
}

}  // namespace
