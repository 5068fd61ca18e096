// Four floats of a row, beside the vectors of vec16_avx512.h. See quads_portable.h for what each word means.
#pragma once

#include "kernels/quads_avx.h"
#include "kernels/vec16_avx512.h"

namespace {

constexpr int kSparseSums = 16;  // V16 of sums that fit in registers beside their operands

// Transposes the 4 x 4 floats in each quarter of the registers.
[[gnu::always_inline]] inline void transpose4(__m512 (&v)[4]) {
  const __m512 a = _mm512_maskz_unpacklo_ps(kAllLanes, v[0], v[1]), b = _mm512_maskz_unpackhi_ps(kAllLanes, v[0], v[1]);
  const __m512 c = _mm512_maskz_unpacklo_ps(kAllLanes, v[2], v[3]), d = _mm512_maskz_unpackhi_ps(kAllLanes, v[2], v[3]);
  v[0] = _mm512_maskz_shuffle_ps(kAllLanes, a, c, 0x44);
  v[1] = _mm512_maskz_shuffle_ps(kAllLanes, a, c, 0xEE);
  v[2] = _mm512_maskz_shuffle_ps(kAllLanes, b, d, 0x44);
  v[3] = _mm512_maskz_shuffle_ps(kAllLanes, b, d, 0xEE);
}

[[gnu::always_inline]] inline void load_rows4(const float* p, int64_t stride, int64_t n, V16 (&v)[4]) {
  const auto row = [&](int64_t i) { return _mm_loadu_ps(p + (i < n ? i : 0) * stride); };
  __m512 rows[4];
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    rows[i] = _mm512_castps128_ps512(row(i));
    rows[i] = _mm512_insertf32x4(rows[i], row(i + 4), 1);
    rows[i] = _mm512_insertf32x4(rows[i], row(i + 8), 2);
    rows[i] = _mm512_insertf32x4(rows[i], row(i + 12), 3);
  }
  transpose4(rows);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) v[r] = {rows[r]};
}
[[gnu::always_inline]] inline void store_rows4(float* p, int64_t stride, int64_t n, const V16 (&v)[4]) {
  alignas(64) float room[64];
  float* to = n >= 16 ? p : room;
  const int64_t step = n >= 16 ? stride : 4;
  __m512 rows[4] = {v[0].v, v[1].v, v[2].v, v[3].v};
  transpose4(rows);
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    _mm_storeu_ps(to + i * step, _mm512_castps512_ps128(rows[i]));
    _mm_storeu_ps(to + (i + 4) * step, _mm512_maskz_extractf32x4_ps(0xF, rows[i], 1));
    _mm_storeu_ps(to + (i + 8) * step, _mm512_maskz_extractf32x4_ps(0xF, rows[i], 2));
    _mm_storeu_ps(to + (i + 12) * step, _mm512_maskz_extractf32x4_ps(0xF, rows[i], 3));
  }
  if (n < 16) copy_rows4(p, stride, n, room);
}

}  // namespace
