// Four floats of a row, beside the vectors of vec16_neon.h. See quads_portable.h for what each word means.
#pragma once

#include "kernels/vec16_neon.h"

namespace {

constexpr int kSparseSums = 4;  // V16 of sums that fit in registers, and hide the latency of fma, beside their operands

struct V4 {
  Quarter v;
};

template <int R>
inline V4 load4(const float* p) {
  return {load_quarter(p, R, vdupq_n_f32(0.0f))};
}
inline void store4(float* p, V4 x) { vst1q_f32(p, x.v); }
template <int P>
inline V4 fma_lane(V4 x, V4 lanes, V4 sum) {
  return {vfmaq_laneq_f32(sum.v, x.v, lanes.v, P)};
}

[[gnu::always_inline]] inline void load_rows4(const float* p, int64_t stride, int64_t n, V16 (&v)[4]) {
  const auto four = [&](int64_t first, Quarter(&to)[4]) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) to[i] = vld1q_f32(p + (first + i < n ? first + i : 0) * stride);
    transpose4(to);
  };
  Quarter a[4], b[4], c[4], d[4];
  four(0, a);
  four(4, b);
  four(8, c);
  four(12, d);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) v[r] = {a[r], b[r], c[r], d[r]};
}
[[gnu::always_inline]] inline void store_rows4(float* p, int64_t stride, int64_t n, const V16 (&v)[4]) {
  const auto four = [&](int64_t first, Quarter(&rows)[4]) __attribute__((always_inline)) {
    transpose4(rows);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i)
      if (first + i < n) vst1q_f32(p + (first + i) * stride, rows[i]);
  };
  Quarter a[4] = {v[0].a, v[1].a, v[2].a, v[3].a}, b[4] = {v[0].b, v[1].b, v[2].b, v[3].b};
  Quarter c[4] = {v[0].c, v[1].c, v[2].c, v[3].c}, d[4] = {v[0].d, v[1].d, v[2].d, v[3].d};
  four(0, a);
  four(4, b);
  four(8, c);
  four(12, d);
}

}  // namespace
