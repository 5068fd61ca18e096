#include <algorithm>
#include <cmath>

#include "kernels/pool.h"
#include "kernels/scalar_u8.h"

namespace taille {
namespace {

uint8_t average(const PoolU8Args& g, int64_t i, int32_t sum) {
  return round_u8(std::fma(static_cast<float>(sum), g.multiplier[i], g.bias[i]), 0.0f, 255.0f);
}

}  // namespace

void pool_max_u8_portable(const PoolU8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    uint8_t* out = g.out + i * g.ldc;
    std::copy_n(g.a + g.offsets[g.starts[i]], g.channels, out);
    for (int32_t t = g.starts[i] + 1; t < g.starts[i + 1]; ++t) {
      const uint8_t* a = g.a + g.offsets[t];
      for (int64_t c = 0; c < g.channels; ++c) out[c] = std::max(out[c], a[c]);
    }
  }
}

void pool_avg_u8_portable(const PoolU8Args& g) {
  constexpr int64_t kBlock = 64;
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t begin = 0; begin < g.channels; begin += kBlock) {
      const int64_t n = std::min(kBlock, g.channels - begin);
      int32_t sums[kBlock] = {};
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) {
        const uint8_t* a = g.a + g.offsets[t] + begin;
        for (int64_t c = 0; c < n; ++c) sums[c] += a[c];
      }
      for (int64_t c = 0; c < n; ++c) g.out[i * g.ldc + begin + c] = average(g, i, sums[c]);
    }
  }
}

void pool_max_u8_reference(const PoolU8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t c = 0; c < g.channels; ++c) {
      uint8_t most = 0;
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) most = std::max(most, g.a[g.offsets[t] + c]);
      g.out[i * g.ldc + c] = most;
    }
  }
}

void pool_avg_u8_reference(const PoolU8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t c = 0; c < g.channels; ++c) {
      int32_t sum = 0;
      for (int32_t t = g.starts[i]; t < g.starts[i + 1]; ++t) sum += g.a[g.offsets[t] + c];
      g.out[i * g.ldc + c] = average(g, i, sum);
    }
  }
}

}  // namespace taille
