// The steps of int8 attention over V16. Packing is plain loops, which the compiler makes vectors of. Include after one
// vec16_*.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/attention_mask.h"
#include "kernels/attention_s8.h"

namespace {

constexpr int64_t kPanelColumns = 64;  // of gemm_s8's packing

inline int64_t panel_width(int64_t columns, int64_t panel) {
  return (least(columns - panel, kPanelColumns) + 15) & ~15;
}

// Adds 128 modulo 256, which subtracts 128 from what becomes signed.
inline void flip_signs(uint8_t* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] ^= 0x80;
}

inline void pack_keys_run(const taille::PackKeysArgs& g) {
  const int64_t padded = (g.dim + 3) & ~int64_t{3};
  const int64_t whole = g.stride % 4 == 0 ? g.dim & ~int64_t{3} : 0;  // bytes that move in groups of 4
  for (int64_t panel = 0; panel < g.keys; panel += kPanelColumns) {
    const int64_t width = panel_width(g.keys, panel), here = least(g.keys - panel, kPanelColumns);
    auto* to = reinterpret_cast<uint8_t*>(g.packed + panel * padded);
    for (int64_t j = 0; j < width; j += 16)
      transpose16_bits(g.k + (panel + j) * g.stride, g.stride, least(here - j, 16), whole / 4, to + 4 * j, 4 * width);
    flip_signs(to, width * whole);
    if (whole == padded) continue;
    std::memset(to + width * whole, 0, static_cast<size_t>(width * (padded - whole)));
    for (int64_t j = 0; j < here; ++j)
      for (int64_t d = whole; d < g.dim; ++d)
        to[(d & ~int64_t{3}) * width + 4 * j + (d & 3)] = g.k[(panel + j) * g.stride + d] ^ 0x80;
  }
  for (int64_t j = 0; j < g.keys; ++j)
    g.offset[j] = -g.q_zero_point * (sum_bytes(g.k + j * g.stride, g.dim) - 128 * static_cast<int32_t>(g.dim));
}

// Four keys, side by side in each column.
inline void pack_value_group(const uint8_t* const (&row)[4], int64_t columns, int8_t* to) {
  for (int64_t c = 0; c < columns; ++c) {
    const uint32_t group = static_cast<uint32_t>(row[0][c]) | static_cast<uint32_t>(row[1][c]) << 8 |
                           static_cast<uint32_t>(row[2][c]) << 16 | static_cast<uint32_t>(row[3][c]) << 24;
    const uint32_t less = group ^ 0x80808080u;
    std::memcpy(to + 4 * c, &less, sizeof less);
  }
}

inline void pack_values_run(const taille::PackValuesArgs& g) {
  for (int64_t panel = 0; panel < g.dim; panel += kPanelColumns) {
    const int64_t width = panel_width(g.dim, panel), here = least(g.dim - panel, kPanelColumns);
    int8_t* to = g.packed + panel * g.padded_keys;
    if (width != here || g.keys != g.padded_keys) std::memset(to, 0, static_cast<size_t>(width * g.padded_keys));
    int64_t j = 0;
    for (; j + 4 <= g.keys; j += 4) {
      const uint8_t* v = g.v + j * g.stride + panel;
      pack_value_group({v, v + g.stride, v + 2 * g.stride, v + 3 * g.stride}, here, to + j * width);
    }
    for (; j < g.keys; ++j)
      for (int64_t c = 0; c < here; ++c)
        to[(j & ~int64_t{3}) * width + 4 * c + (j & 3)] = static_cast<int8_t>(g.v[j * g.stride + panel + c] ^ 0x80);
  }
}

constexpr float kLog2E = 1.44269504f;
constexpr float kLog2Of255 = 7.99435329f;
constexpr float kLowest2 = -20.0f;  // 2^-20 rounds to 0

// 2^y for y in [kLowest2, kLog2Of255], fitted as in vec16_math.h. The sum with 1.5 * 2^23 rounds to an integer.
[[gnu::always_inline]] inline V16 exp2_of(V16 y) {
  const V16 shift = splat(12582912.0f);
  const V16 t = y + shift;
  const V16 r = y - (t - shift);
  return add_exponent(polynomial(r, {0.999928057f, 0.693260968f, 0.242611125f, 0.0551716238f}), t);
}

inline void weigh_row(const float* s, int64_t visible, float top, int64_t padded, uint8_t* out) {
  const V16 shift = splat(top - kLog2Of255), lowest = splat(kLowest2);
  int64_t j = 0;
  for (; j + 16 <= visible; j += 16) store_bytes(out + j, exp2_of(max(load(s + j) - shift, lowest)));
  if (j < visible) {
    const V16 last = load_n(s + j, visible - j, splat(-kInfinity));
    store_bytes(out + j, exp2_of(max(last - shift, lowest)));
    j += 16;
  }
  if (j < padded) std::memset(out + j, 0, static_cast<size_t>(padded - j));
}

// One step for several rows, then the next: a row alone waits for its maximum and for its sum.
inline void softmax_u8_run(const taille::SoftmaxU8Args& g) {
  constexpr int64_t kRowsAtOnce = 8;
  float top[kRowsAtOnce];
  for (int64_t begin = g.begin; begin < g.end; begin += kRowsAtOnce) {
    const int64_t end = least(g.end, begin + kRowsAtOnce);
    float* scores = g.scores + (begin - g.begin) * g.score_stride;
    uint8_t* out = g.out + (begin - g.begin) * g.padded_keys;
    for (int64_t i = begin; i < end; ++i)
      top[i - begin] = mask_row(g, i, scores + (i - begin) * g.score_stride, kLog2E);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t visible = top[i - begin] == -kInfinity ? 0 : visible_keys(g, i);
      weigh_row(scores + (i - begin) * g.score_stride, visible, top[i - begin], g.padded_keys,
                out + (i - begin) * g.padded_keys);
    }
    for (int64_t i = begin; i < end; ++i) {
      const int32_t sum = sum_bytes(out + (i - begin) * g.padded_keys, g.padded_keys);
      g.factor[i - g.begin] = sum == 0 ? 0.0f : 1.0f / static_cast<float>(sum);
    }
  }
}

inline void scale_rows_run(const taille::ScaleRowsArgs& g) {
  for (int64_t r = 0; r < g.rows; ++r) {
    const float* x = g.x + r * g.n;
    const bool masked = g.factor[r] == 0;
    const V16 factor = splat(g.factor[r]), scale = splat(masked ? 0.0f : g.scale);
    const V16 shift = splat(masked ? g.masked : g.shift);
    for_vectors(g.n, [&](int64_t i, int64_t lanes) {
      const V16 v = fma(load_upto(x + i, lanes, factor) * factor, scale, shift);
      if (g.out_f32) {
        store_upto(static_cast<float*>(g.out) + r * g.out_stride + i, v, lanes);
        return;
      }
      uint8_t* out = static_cast<uint8_t*>(g.out) + r * g.out_stride + i;
      const V16 bytes = min(splat(255.0f), max(splat(0.0f), v));
      if (lanes >= 16) {
        store_bytes(out, bytes);
      } else {
        uint8_t last[16];
        store_bytes(last, bytes);
        std::memcpy(out, last, static_cast<size_t>(lanes));
      }
    });
  }
}

}  // namespace
