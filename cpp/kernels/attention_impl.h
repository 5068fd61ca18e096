// Attention over V16: blocks of query rows against all keys. The keys are packed as the panels of a matrix product
// ([dim][width]), so scores and outputs are both made of multiply_add tiles; the division by the sum of a row is left
// to its output. Include after one vec16_*.h.
//
//   scratch: packed keys | packed values (where value_dim is no multiple of 16) | scores [kAttentionBlock][keys]
//
// With `causal`, keys past a block's last row are skipped.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/attention_mask.h"
#include "kernels/matmul_tile.h"

namespace {

inline int64_t vectors_of(int64_t n) { return (n + 15) / 16; }

// k[j][d] -> panels of 64 keys, zeros past the last key
inline void pack_keys(const taille::AttentionArgs& g, float* to) {
  for (int64_t first = 0; first < g.keys; first += kPanel) {
    const int64_t width = 16 * vectors_of(least(g.keys - first, kPanel));
    for (int64_t j = 0; j < width; j += 16) {
      const int64_t left = g.keys - first - j;
      const float* from = g.k + (first + j) * g.k_stride;
      transpose16(from, g.k_stride, left < 16 ? left : 16, g.dim, to + j, width);
    }
    to += width * g.dim;
  }
}

// v -> rows of whole vectors, zeros past value_dim
inline void pack_values(const taille::AttentionArgs& g, float* to) {
  for (int64_t j = 0; j < g.keys; ++j)
    for (int64_t c = 0; c < g.value_dim; c += 16, to += 16)
      store(to, load_upto(g.v + j * g.v_stride + c, g.value_dim - c, splat(0.0f)));
}

struct AttentionBlock {
  const taille::AttentionArgs& g;
  const float* keys;  // packed
  const float* values;
  int64_t values_stride;
  float* scores;
  int64_t scores_stride;
  int64_t begin, end;                      // query rows
  int64_t used;                            // keys that some row of the block may see
  float factors[taille::kAttentionBlock];  // 1 / sum of each row of weights
};

struct ScorePanel {
  const AttentionBlock& t;
  int64_t column;
  const float* b;
  int64_t width;
  int64_t strip;

  template <int MR, int NV>
  static void tile(const ScorePanel& s, int64_t i) {
    const taille::AttentionArgs& g = s.t.g;
    const float* a[MR];
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) a[r] = g.q + (i + r) * g.q_stride;
    V16 acc[MR][NV];
    clear(acc);
    multiply_add(acc, a, s.b + 16 * s.strip, s.width, g.dim);
    const V16 scale = splat(g.scale);
    float* to = s.t.scores + (i - s.t.begin) * s.t.scores_stride + s.column + 16 * s.strip;
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r, to += s.t.scores_stride)
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) store(to + 16 * v, acc[r][v] * scale);
  }
};

struct ValuePanel {
  const AttentionBlock& t;
  int64_t column;
  int64_t strip;

  template <int MR, int NV>
  static void tile(const ValuePanel& s, int64_t i) {
    const taille::AttentionArgs& g = s.t.g;
    const int64_t row = i - s.t.begin;
    const int64_t c = s.column + 16 * s.strip;
    const float* a[MR];
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) a[r] = s.t.scores + (row + r) * s.t.scores_stride;
    V16 acc[MR][NV];
    clear(acc);
    multiply_add(acc, a, s.t.values + c, s.t.values_stride, s.t.used);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) {
      const V16 factor = splat(s.t.factors[row + r]);
      float* out = g.out + (i + r) * g.out_stride + c;
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v)
        store_upto(out + 16 * v, acc[r][v] * factor, v + 1 < NV ? 16 : g.value_dim - c - 16 * v);
    }
  }
};

// One step for all rows of the block, then the next: see softmax_run.
inline void weigh_rows(AttentionBlock& t) {
  const taille::AttentionArgs& g = t.g;
  float top[taille::kAttentionBlock];
  float* s = t.scores;
  for (int64_t i = t.begin; i < t.end; ++i, s += t.scores_stride) top[i - t.begin] = mask_row(g, i, s, 1.0f);
  s = t.scores;
  for (int64_t i = t.begin; i < t.end; ++i, s += t.scores_stride) {
    const int64_t visible = visible_keys(g, i);
    t.factors[i - t.begin] = exp_row(s, visible, top[i - t.begin], s);
    for (int64_t j = visible; j < t.used; ++j) s[j] = 0.0f;
  }
}

inline void attention_block(AttentionBlock& t) {
  const taille::AttentionArgs& g = t.g;
  for (int64_t j = 0; j < t.used; j += kPanel) {
    const int64_t width = 16 * vectors_of(least(g.keys - j, kPanel));
    const int64_t vectors = vectors_of(least(t.used - j, kPanel));
    strips(ScorePanel{t, j, t.keys + j * g.dim, width, 0}, vectors, t.begin, t.end);
  }
  weigh_rows(t);
  for (int64_t c = 0; c < g.value_dim; c += kPanel)
    strips(ValuePanel{t, c, 0}, vectors_of(least(g.value_dim - c, kPanel)), t.begin, t.end);
}

inline void attention_run(const taille::AttentionArgs& g) {
  const int64_t padded_keys = 16 * vectors_of(g.keys);
  float* keys = g.scratch;
  float* scores = keys + padded_keys * g.dim;
  AttentionBlock t{g, keys, g.v, g.v_stride, scores, padded_keys, 0, 0, 0, {}};
  pack_keys(g, keys);
  if (g.value_dim % 16 != 0) {
    t.values = scores;
    t.values_stride = 16 * vectors_of(g.value_dim);
    pack_values(g, scores);
    t.scores += g.keys * t.values_stride;
  }
  for (int64_t i = g.q_begin; i < g.q_end; i = t.end) {
    const int64_t block_end = (i / taille::kAttentionBlock + 1) * taille::kAttentionBlock;
    t.begin = i;
    t.end = least(g.q_end, block_end);
    t.used = g.causal ? least(g.keys, block_end) : g.keys;
    attention_block(t);
  }
}

}  // namespace
