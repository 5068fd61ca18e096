#include <algorithm>
#include <cmath>

#include "kernels/gemm_s8.h"
#include "kernels/scalar_u8.h"

namespace taille {
namespace {

const uint8_t* row_pointer(const GemmS8Args& g, int64_t i, int64_t tap) {
  if (!g.offsets) return g.a + i * g.lda;
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

// Column j of the packed weights: group p is at [p * step], 4 bytes each.
struct Column {
  const int8_t* w;
  int64_t step;
};
Column column(const GemmS8Args& g, int64_t j) {
  const int64_t padded = (g.taps * g.k + 3) / 4 * 4;
  const int64_t panel = j / 64 * 64, width = std::min<int64_t>(64, (g.n - panel + 15) / 16 * 16);
  return {g.packed + panel * padded + (j - panel) * 4, width * 4};
}

void finish(const GemmS8Args& g, int64_t i, int64_t j, int32_t acc) {
  float v = std::fma(static_cast<float>(wrapping_add(acc, g.offset[j])), g.scale[j], g.bias[j]);
  const int64_t at = i * g.ldc + j, residual_at = i * g.residual_stride + j;
  if (g.out_f32) {
    if (g.residual) v = v + static_cast<const float*>(g.residual)[residual_at];
    static_cast<float*>(g.out)[at] = clamp(v, g.lo, g.hi);
    return;
  }
  if (g.residual)
    v = std::fma(static_cast<float>(static_cast<const uint8_t*>(g.residual)[residual_at]), g.residual_scale, v);
  static_cast<uint8_t*>(g.out)[at] = round_u8(v, g.lo, g.hi);
}

// 4 columns of one row over one tap; the 16 products of a group fill vector registers of any size.
void add_tap(int32_t (&sums)[16], const uint8_t* a, int64_t groups, const Column& c) {
  const int8_t* w = c.w;
  for (int64_t p = 0; p < groups; ++p, w += c.step, a += 4) {
    for (int q = 0; q < 16; ++q) sums[q] += static_cast<int16_t>(a[q % 4]) * static_cast<int16_t>(w[q]);
  }
}

// The row's taps one after another, padded with zeros to whole groups.
void gather(const GemmS8Args& g, int64_t i) {
  uint8_t* end = g.scratch;
  for (int64_t tap = 0; tap < g.taps; ++tap) end = std::copy_n(row_pointer(g, i, tap), g.k, end);
  std::fill_n(end, (4 - g.taps * g.k % 4) % 4, uint8_t{0});
}

}  // namespace

void gemm_s8_portable(const GemmS8Args& g) {
  const int64_t groups = (g.taps * g.k + 3) / 4;
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    gather(g, i);
    for (int64_t j = g.n_begin; j < g.n_end; j += 4) {
      int32_t sums[16] = {};
      add_tap(sums, g.scratch, groups, column(g, j));
      for (int64_t c = 0; c < std::min<int64_t>(4, g.n_end - j); ++c)
        finish(g, i, j + c, sums[4 * c] + sums[4 * c + 1] + sums[4 * c + 2] + sums[4 * c + 3]);
    }
  }
}

void gemm_s8_reference(const GemmS8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      const Column w = column(g, j);
      int32_t acc = 0;
      for (int64_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* a = row_pointer(g, i, tap);
        for (int64_t p = 0; p < g.k; ++p) {
          const int64_t at = tap * g.k + p;
          acc += a[p] * w.w[at / 4 * w.step + at % 4];
        }
      }
      finish(g, i, j, acc);
    }
  }
}

}  // namespace taille
