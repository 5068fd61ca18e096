// Words of quads_portable.h that need no more than AVX2: quads_avx2.h and quads_avx512.h share them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct V4 {
  __m128 v;
};

template <int R>
inline V4 load4(const float* p) {
  if constexpr (R == 1) return {_mm_load_ss(p)};
  if constexpr (R == 2) return {_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
  return {_mm_loadu_ps(p)};
}
inline void store4(float* p, V4 a) { _mm_storeu_ps(p, a.v); }
template <int P>
inline V4 fma_lane(V4 a, V4 x, V4 c) {
  return {_mm_fmadd_ps(a.v, _mm_permute_ps(x.v, P * 0x55), c.v)};
}

// p[i*stride ..] = from[4*i ..] for i < n
inline void copy_rows4(float* p, int64_t stride, int64_t n, const float* from) {
  for (int64_t i = 0; i < n; ++i) store4(p + i * stride, load4<4>(from + 4 * i));
}

}  // namespace
