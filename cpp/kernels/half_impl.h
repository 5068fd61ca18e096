// Conversions between float32 and 16-bit floats, 16 at a time. Include after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/half.h"

namespace {

template <class Half>
inline void widen_run(const Half* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load(in + i));
  if (i == n) return;
  Half rest[16] = {};
  for (int64_t j = i; j < n; ++j) rest[j - i] = in[j];
  store_n(out + i, load(rest), n - i);
}

template <class Half>
inline void narrow_run(const float* in, int64_t n, Half* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load(in + i));
  if (i == n) return;
  Half rest[16];
  store(rest, load_n(in + i, n - i, splat(0.0f)));
  for (int64_t j = i; j < n; ++j) out[j] = rest[j - i];
}

inline void widen_run(const taille::WidenArgs& g) {
  if (g.type == taille::DType::f16) return widen_run(static_cast<const taille::F16*>(g.in), g.n, g.out);
  widen_run(static_cast<const taille::BF16*>(g.in), g.n, g.out);
}

inline void narrow_run(const taille::NarrowArgs& g) {
  if (g.type == taille::DType::f16) return narrow_run(g.in, g.n, static_cast<taille::F16*>(g.out));
  narrow_run(g.in, g.n, static_cast<taille::BF16*>(g.out));
}

}  // namespace
