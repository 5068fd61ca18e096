#include <cmath>

#include "kernels/depthwise.h"

namespace taille {

void depthwise_f32_reference(const DepthwiseF32Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i)
    for (int64_t c = 0; c < g.channels; ++c) {
      float v = 0;
      for (int64_t t = 0; t < g.taps; ++t) {
        const int32_t offset = g.offsets[i * g.taps + t];
        v = std::fma(offset < 0 ? g.pad_row[c] : g.a[offset + c], g.w[t * g.channels + c], v);
      }
      if (g.bias) v += g.bias[c];
      if (g.lo > v) v = g.lo;
      if (g.hi < v) v = g.hi;
      g.out[i * g.ldc + c] = v;
    }
}

}  // namespace taille
