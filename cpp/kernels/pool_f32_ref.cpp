#include <cmath>

#include "kernels/pool.h"

namespace taille {

void pool_max_f32_reference(const PoolF32Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i)
    for (int64_t c = 0; c < g.channels; ++c) {
      float v = -HUGE_VALF;
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) {
        const float x = g.a[g.offsets[t] + c];
        if (x > v || std::isnan(x)) v = x;
      }
      g.out[i * g.ldc + c] = v;
    }
}

void pool_avg_f32_reference(const PoolF32Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i)
    for (int64_t c = 0; c < g.channels; ++c) {
      float v = 0;
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) v += g.a[g.offsets[t] + c];
      g.out[i * g.ldc + c] = v / g.divisor[i];
    }
}

}  // namespace taille
