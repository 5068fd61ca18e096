// pool_max_u8 and pool_avg_u8 for one vector level. The kernel file first includes the level's avx*_s8.h.
#pragma once

#include "kernels/pool.h"

namespace taille {
namespace {

inline void pool_max_u8_run(const PoolU8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t c = 0; c < g.channels; c += kBytes) {
      const int64_t n = g.channels - c;
      I most = zero();
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t)
        most = max_u8(most, load_bytes(g.a + g.offsets[t] + c, n));
      store_bytes(g.out + i * g.ldc + c, most, n);
    }
  }
}

inline void pool_avg_u8_run(const PoolU8Args& g) {
  const F hi = all_f32(255.0f);
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    const F multiplier = all_f32(g.multiplier[i]), bias = all_f32(g.bias[i]);
    for (int64_t c = 0; c < g.channels; c += kBytes) {
      const int64_t n = g.channels - c;
      I sum[4] = {zero(), zero(), zero(), zero()};
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) {
        const uint8_t* a = g.a + g.offsets[t] + c;
        for (int v = 0; v < 4; ++v) sum[v] = add_s32(sum[v], load_u8_as_s32(a + kLanes * v, n - kLanes * v));
      }
      for (int v = 0; v < 4; ++v) sum[v] = round_half_even(cap(fma(to_f32(sum[v]), multiplier, bias), hi));
      store_bytes(g.out + i * g.ldc + c, pack(sum[0], sum[1], sum[2], sum[3]), n);
    }
  }
}

}  // namespace
}  // namespace taille
