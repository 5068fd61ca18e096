// Float pooling over V16: U vectors of channels stay in registers while the pixels of one output advance. Include
// after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/pool.h"
#include "kernels/vec16_math.h"

namespace {

struct PoolMax {
  static V16 start() { return splat(-kInfinity); }
  // The larger, or NaN where either is (max alone drops a NaN in x).
  static V16 step(V16 v, V16 x) { return select(is_nan(x), x, max(x, v)); }
  static V16 finish(V16 v, const taille::PoolF32Args&, int64_t) { return v; }
};

struct PoolAvg {
  static V16 start() { return splat(0.0f); }
  static V16 step(V16 v, V16 x) { return v + x; }
  static V16 finish(V16 v, const taille::PoolF32Args& g, int64_t i) { return v / splat(g.divisor[i]); }
};

template <class Op, int U>
[[gnu::always_inline]] inline void pool_block(const taille::PoolF32Args& g, int64_t i, int64_t c, int64_t lanes) {
  V16 v[U];
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) v[u] = Op::start();
  for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) {
    const float* a = g.a + g.offsets[t] + c;
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) v[u] = Op::step(v[u], load_upto(a + 16 * u, lanes, splat(0.0f)));
  }
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) store_upto(g.out + i * g.ldc + c + 16 * u, Op::finish(v[u], g, i), lanes);
}

template <class Op>
inline void pool_run(const taille::PoolF32Args& g) {
  constexpr int kWide = kVectorsLive < 4 ? 1 : 4;
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    int64_t c = 0;
    for (; c + 16 * kWide <= g.channels; c += 16 * kWide) pool_block<Op, kWide>(g, i, c, 16);
    for (; c + 16 <= g.channels; c += 16) pool_block<Op, 1>(g, i, c, 16);
    if (c < g.channels) pool_block<Op, 1>(g, i, c, g.channels - c);
  }
}

}  // namespace
