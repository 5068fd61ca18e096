// Masks of a row of attention scores. Args: keys, mask, mask_bool, mask_stride, mask_step, causal. Include after one
// vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/normalize_impl.h"

namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

template <class Args>
inline int64_t visible_keys(const Args& g, int64_t i) {
  return g.causal ? least(g.keys, i + 1) : g.keys;
}

// Masks row i of the scores `s` and returns its maximum; `unit` times the additive mask is in the scores' unit.
template <class Args>
inline float mask_row(const Args& g, int64_t i, float* s, float unit) {
  const int64_t visible = visible_keys(g, i);
  if (g.mask != nullptr) {
    const float* mask = g.mask + i * g.mask_stride;
    for_vectors(visible, [&](int64_t j, int64_t lanes) {
      const V16 m = g.mask_step == 0 ? splat(*mask) : load_upto(mask + j, lanes, splat(0.0f));
      store_upto(s + j, fma(m, splat(unit), load_upto(s + j, lanes, m)), lanes);
    });
  }
  if (g.mask_bool != nullptr) {
    const uint8_t* mask = g.mask_bool + i * g.mask_stride;
    for (int64_t j = 0; j < visible; ++j) s[j] = mask[j * g.mask_step] != 0 ? s[j] : -kInfinity;
  }
  return row_max(s, visible);
}

}  // namespace
