// Four floats of a row, beside the vectors of vec16_portable.h: what sparse products read activations and write outputs
// by. Like those, every word gives the same bits at every level.
//
//   load4<R>       the first R floats of p, touching no others; 0 behind them
//   fma_lane<P>    a * x[P] + c
//   load_rows4     v[r] lane i = p[i*stride + r] for r < 4, i < n; any of these for i >= n (1 <= n)
//   store_rows4    p[i*stride + r] = v[r] lane i for r < 4, i < n
#pragma once

#include "kernels/vec16_portable.h"

namespace {

constexpr int kSparseSums = 4;  // V16 of sums that fit in registers, and hide the latency of fma, beside their operands

struct V4 {
  float v[4];
};

template <int R>
inline V4 load4(const float* p) {
  V4 r{};
  for (int i = 0; i < R; ++i) r.v[i] = p[i];
  return r;
}
inline void store4(float* p, V4 a) { std::memcpy(p, a.v, sizeof a.v); }
template <int P>
inline V4 fma_lane(V4 a, V4 x, V4 c) {
  V4 r;
  for (int i = 0; i < 4; ++i) r.v[i] = std::fma(a.v[i], x.v[P], c.v[i]);
  return r;
}

inline void load_rows4(const float* p, int64_t stride, int64_t n, V16 (&v)[4]) {
  for (int r = 0; r < 4; ++r) v[r] = per_lane([&](int i) { return p[(i < n ? i : 0) * stride + r]; });
}
inline void store_rows4(float* p, int64_t stride, int64_t n, const V16 (&v)[4]) {
  for (int64_t i = 0; i < n; ++i)
    for (int r = 0; r < 4; ++r) p[i * stride + r] = v[r].v[i];
}

}  // namespace
