// The plain specifications.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/attention_s8.h"
#include "kernels/gemm_s8.h"

namespace taille {
namespace {

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// Where byte p of column j of n lies among weights of that depth.
int64_t packed_place(int64_t j, int64_t p, int64_t n, int64_t depth) {
  const int64_t panel = j / 64 * 64, width = std::min<int64_t>(64, round_up(n - panel, 16));
  return panel * round_up(depth, 4) + p / 4 * width * 4 + (j - panel) * 4 + p % 4;
}

double score(const SoftmaxU8Args& g, int64_t i, int64_t j) {
  if (g.causal && j > i) return -HUGE_VAL;
  const int64_t at = i * g.mask_stride + j * g.mask_step;
  if (g.mask_bool && !g.mask_bool[at]) return -HUGE_VAL;
  const double s = g.scores[(i - g.begin) * g.score_stride + j];
  return g.mask ? s + g.mask[at] / std::log(2.0) : s;
}

}  // namespace

void pack_keys_reference(const PackKeysArgs& g) {
  std::memset(g.packed, 0, static_cast<size_t>(round_up(g.keys, 16) * round_up(g.dim, 4)));
  for (int64_t j = 0; j < g.keys; ++j) {
    g.offset[j] = 0;
    for (int64_t d = 0; d < g.dim; ++d) {
      const int32_t value = g.k[j * g.stride + d] - 128;
      g.packed[packed_place(j, d, g.keys, g.dim)] = static_cast<int8_t>(value);
      g.offset[j] -= g.q_zero_point * value;
    }
  }
}

void pack_values_reference(const PackValuesArgs& g) {
  std::memset(g.packed, 0, static_cast<size_t>(round_up(g.dim, 16) * g.padded_keys));
  for (int64_t j = 0; j < g.keys; ++j)
    for (int64_t d = 0; d < g.dim; ++d)
      g.packed[packed_place(d, j, g.dim, g.padded_keys)] = static_cast<int8_t>(g.v[j * g.stride + d] - 128);
}

void softmax_u8_reference(const SoftmaxU8Args& g) {
  for (int64_t i = g.begin; i < g.end; ++i) {
    uint8_t* out = g.out + (i - g.begin) * g.padded_keys;
    double top = -HUGE_VAL, sum = 0;
    for (int64_t j = 0; j < g.keys; ++j) top = std::max(top, score(g, i, j));
    for (int64_t j = 0; j < g.padded_keys; ++j) {
      const double p = j < g.keys && top > -HUGE_VAL ? std::nearbyint(255 * std::exp2(score(g, i, j) - top)) : 0;
      out[j] = static_cast<uint8_t>(p);
      sum += p;
    }
    g.factor[i - g.begin] = static_cast<float>(sum > 0 ? 1 / sum : 0);
  }
}

void scale_rows_reference(const ScaleRowsArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r)
    for (int64_t i = 0; i < g.n; ++i) {
      const float scaled = std::fma(g.x[r * g.n + i] * g.factor[r], g.scale, g.shift);
      const float v = g.factor[r] == 0 ? g.masked : scaled;
      if (g.out_f32)
        static_cast<float*>(g.out)[r * g.out_stride + i] = v;
      else
        static_cast<uint8_t*>(g.out)[r * g.out_stride + i] =
            static_cast<uint8_t>(std::nearbyint(std::min(255.0f, std::max(0.0f, v))));
    }
}

}  // namespace taille
