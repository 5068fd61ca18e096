// The kernels of quantize.h (but lookup and histogram) for one vector level. The kernel file first includes the
// level's avx*_s8.h.
#pragma once

#include "kernels/quantize.h"

namespace taille {
namespace {

// Calls body(i, n) for blocks of 4 vectors and once for the rest, 0 < n <= kBytes elements.
template <class Body>
[[gnu::always_inline]] inline void for_blocks(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) body(i, int64_t{kBytes});
  if (i < n) body(i, n - i);
}

inline void quantize_run(const QuantizeArgs& g) {
  const F scale = all_f32(g.inverse_scale), zero_point = all_f32(g.zero_point);
  const F hi = all_f32(255.0f);
  for_blocks(g.n, [&](int64_t i, int64_t n) {
    I q[4];
    for (int v = 0; v < 4; ++v) {
      const F x = load_f32(g.x + i + kLanes * v, n - kLanes * v);
      q[v] = round_half_even(cap(fma(x, scale, zero_point), hi));
    }
    store_bytes(g.out + i, pack(q[0], q[1], q[2], q[3]), n);
  });
}

inline void dequantize_run(const DequantizeArgs& g) {
  const F scale = all_f32(g.scale);
  const I zero_point = all_s32(g.zero_point);
  for_blocks(g.n, [&](int64_t i, int64_t n) {
    for (int v = 0; v < 4; ++v) {
      const I q = sub_s32(load_u8_as_s32(g.x + i + kLanes * v, n - kLanes * v), zero_point);
      store_f32(g.out + i + kLanes * v, mul(to_f32(q), scale), n - kLanes * v);
    }
  });
}

template <bool kHasB>
inline void add_u8_blocks(const AddU8Args& g) {
  const F a_scale = all_f32(g.a_scale), b_scale = all_f32(g.b_scale), bias = all_f32(g.bias);
  const F hi = all_f32(g.hi);
  const I lo = low_bytes(g.lo);
  for_blocks(g.n, [&](int64_t i, int64_t n) {
    I q[4];
    for (int v = 0; v < 4; ++v) {
      F x = fma(to_f32(load_u8_as_s32(g.a + i + kLanes * v, n - kLanes * v)), a_scale, bias);
      if constexpr (kHasB) x = fma(to_f32(load_u8_as_s32(g.b + i + kLanes * v, n - kLanes * v)), b_scale, x);
      q[v] = round_half_even(cap(x, hi));
    }
    store_bytes(g.out + i, max_u8(pack(q[0], q[1], q[2], q[3]), lo), n);
  });
}

inline void add_u8_run(const AddU8Args& g) {
  if (g.b)
    add_u8_blocks<true>(g);
  else
    add_u8_blocks<false>(g);
}

inline void observe_run(const ObserveArgs& g) {
  F low = all_f32(*g.minimum), high = all_f32(*g.maximum);
  int64_t bad = 0;
  for (int64_t i = 0; i < g.n; i += kLanes) {
    const int64_t n = g.n - i < kLanes ? g.n - i : kLanes;
    const F x = load_f32(g.x + i, n);
    const Finite finite = finite_lanes(x, n);
    low = min(low, choose(finite, x, low));
    high = max(high, choose(finite, x, high));
    bad += n - count(finite);
  }
  float lows[kLanes], highs[kLanes];
  store_f32(lows, low, kLanes);
  store_f32(highs, high, kLanes);
  float least = lows[0], most = highs[0];
  for (int l = 1; l < kLanes; ++l) {
    least = lows[l] < least ? lows[l] : least;
    most = highs[l] > most ? highs[l] : most;
  }
  *g.minimum = least + 0.0f;  // -0 becomes 0, so that the order does not matter
  *g.maximum = most + 0.0f;
  *g.bad += bad;
}

}  // namespace
}  // namespace taille
