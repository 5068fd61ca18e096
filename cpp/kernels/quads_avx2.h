// Four floats of a row, beside the vectors of vec16_avx2.h. See quads_portable.h for what each word means.
#pragma once

#include "kernels/quads_avx.h"
#include "kernels/vec16_avx2.h"

namespace {

constexpr int kSparseSums = 4;  // V16 of sums that fit in registers, and hide the latency of fma, beside their operands

// Transposes the 4 x 4 floats in the low halves of the registers, and those in the high halves.
[[gnu::always_inline]] inline void transpose4(__m256 (&v)[4]) {
  const __m256 a = _mm256_unpacklo_ps(v[0], v[1]), b = _mm256_unpackhi_ps(v[0], v[1]);
  const __m256 c = _mm256_unpacklo_ps(v[2], v[3]), d = _mm256_unpackhi_ps(v[2], v[3]);
  v[0] = _mm256_shuffle_ps(a, c, 0x44);
  v[1] = _mm256_shuffle_ps(a, c, 0xEE);
  v[2] = _mm256_shuffle_ps(b, d, 0x44);
  v[3] = _mm256_shuffle_ps(b, d, 0xEE);
}

[[gnu::always_inline]] inline void load_rows4(const float* p, int64_t stride, int64_t n, V16 (&v)[4]) {
  const auto row = [&](int64_t i) { return _mm_loadu_ps(p + (i < n ? i : 0) * stride); };
  const auto half = [&](int64_t first, __m256(&to)[4]) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) to[i] = _mm256_set_m128(row(first + i + 4), row(first + i));
    transpose4(to);
  };
  __m256 lo[4], hi[4];
  half(0, lo);
  half(8, hi);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) v[r] = {lo[r], hi[r]};
}
[[gnu::always_inline]] inline void store_rows4(float* p, int64_t stride, int64_t n, const V16 (&v)[4]) {
  alignas(32) float room[64];
  float* to = n >= 16 ? p : room;
  const int64_t step = n >= 16 ? stride : 4;
  const auto half = [&](int64_t first, __m256(&rows)[4]) {
    transpose4(rows);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      _mm_storeu_ps(to + (first + i) * step, _mm256_castps256_ps128(rows[i]));
      _mm_storeu_ps(to + (first + i + 4) * step, _mm256_extractf128_ps(rows[i], 1));
    }
  };
  __m256 lo[4] = {v[0].lo, v[1].lo, v[2].lo, v[3].lo}, hi[4] = {v[0].hi, v[1].hi, v[2].hi, v[3].hi};
  half(0, lo);
  half(8, hi);
  if (n < 16) copy_rows4(p, stride, n, room);
}

}  // namespace
