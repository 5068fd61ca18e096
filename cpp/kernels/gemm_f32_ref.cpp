#include <cmath>

#include "kernels/gemm_f32.h"
#include "kernels/half.h"

namespace taille {

// Element `i` of the packed weights.
static float weight(const GemmF32Args& g, int64_t i) {
  if (g.packed_type == DType::f32) return static_cast<const float*>(g.packed)[i];
  float value = 0;
  widen_table().back().run({static_cast<const F16*>(g.packed) + i, 1, g.packed_type, &value});
  return value;
}

void gemm_f32_reference(const GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t i = g.m_begin; i < g.m_end; ++i)
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      const int64_t panel = j / 64 * 64;
      const int64_t width = g.n - panel < 64 ? (g.n - panel + 15) / 16 * 16 : 64;
      const int64_t first = panel * k_total + (j - panel);
      float v = 0;
      for (int64_t t = 0; t < g.taps; ++t) {
        const int32_t offset = g.offsets ? g.offsets[i * g.taps + t] : 0;
        const float* a = g.offsets ? (offset < 0 ? g.pad_row : g.a + offset) : g.a + i * g.lda;
        for (int64_t p = 0; p < g.k; ++p) v = std::fma(a[p], weight(g, first + (t * g.k + p) * width), v);
      }
      if (g.bias) v += g.bias[j];
      if (g.residual) v += g.residual[i * g.residual_stride + j];
      if (g.lo > v) v = g.lo;
      if (g.hi < v) v = g.hi;
      g.out[i * g.ldc + j] = v;
    }
}

}  // namespace taille
