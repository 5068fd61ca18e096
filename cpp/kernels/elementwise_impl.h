// Unary and binary float arithmetic over V16. Include after one vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/elementwise.h"
#include "kernels/vec16_math.h"

namespace {

template <class F>
inline void map(const taille::UnaryArgs& g, F f) {
  for_vectors(
      g.n, [&](int64_t i, int64_t lanes) { store_upto(g.out + i, f(load_upto(g.x + i, lanes, splat(0.0f))), lanes); });
}

// 0.5 x (1 + t) where t is in [-1, 1]
inline V16 gate(V16 x, V16 t) {
  const V16 half = splat(0.5f) * x;
  return fma(half, t, half);
}

inline V16 gelu_tanh_argument(V16 x) {
  const V16 cubic = fma(x * x * splat(0.044715f), x, x);
  return cubic * splat(0.797884561f);  // sqrt(2 / pi)
}

// min(max(x + 3, 0), 6) / 6
inline V16 hard_gate(V16 x) { return clamp(x + splat(3.0f), splat(0.0f), splat(6.0f)) * splat(1.0f / 6.0f); }

inline void unary_run(const taille::UnaryArgs& g) {
  using taille::UnaryOp;
  const V16 one = splat(1.0f);
  switch (g.op) {
    case UnaryOp::clamp: {
      const V16 lo = splat(g.lo);
      const V16 hi = splat(g.hi);
      return map(g, [=](V16 x) { return clamp(x, lo, hi); });
    }
    case UnaryOp::neg:
      return map(g, [](V16 x) { return negate(x); });
    case UnaryOp::abs:
      return map(g, [](V16 x) { return absolute(x); });
    case UnaryOp::exp:
      return map(g, [](V16 x) { return exp(x); });
    case UnaryOp::log:
      return map(g, [](V16 x) { return log(x); });
    case UnaryOp::sqrt:
      return map(g, [](V16 x) { return sqrt(x); });
    case UnaryOp::rsqrt:
      return map(g, [=](V16 x) { return one / sqrt(x); });
    case UnaryOp::reciprocal:
      return map(g, [=](V16 x) { return one / x; });
    case UnaryOp::tanh:
      return map(g, [](V16 x) { return tanh(x); });
    case UnaryOp::sigmoid:
      return map(g, [](V16 x) { return sigmoid(x); });
    case UnaryOp::silu:
      return map(g, [](V16 x) { return x * sigmoid(x); });
    case UnaryOp::erf:
      return map(g, [](V16 x) { return erf(x); });
    case UnaryOp::gelu:
      return map(g, [](V16 x) { return gate(x, erf(x * splat(0.707106781f))); });
    case UnaryOp::gelu_tanh:
      return map(g, [](V16 x) { return gate(x, tanh(gelu_tanh_argument(x))); });
    case UnaryOp::hardswish:
      return map(g, [](V16 x) { return x * hard_gate(x); });
    case UnaryOp::hardsigmoid:
      return map(g, [](V16 x) { return hard_gate(x); });
  }
}

template <bool kRepeatA, bool kRepeatB, class F>
inline void map2_steps(const taille::BinaryArgs& g, F f) {
  if (g.n <= 0) return;
  const V16 a = splat(*g.a);
  const V16 b = splat(*g.b);
  for_vectors(g.n, [&](int64_t i, int64_t lanes) {
    const V16 x = kRepeatA ? a : load_upto(g.a + i, lanes, a);
    const V16 y = kRepeatB ? b : load_upto(g.b + i, lanes, b);
    store_upto(g.out + i, f(x, y), lanes);
  });
}

template <class F>
inline void map2(const taille::BinaryArgs& g, F f) {
  if (g.a_step == 0)
    g.b_step == 0 ? map2_steps<true, true>(g, f) : map2_steps<true, false>(g, f);
  else
    g.b_step == 0 ? map2_steps<false, true>(g, f) : map2_steps<false, false>(g, f);
}

// The C library's pow, lane by lane: no hot path of a model has one but squares.
inline void pow_run(const taille::BinaryArgs& g) {
  const float first_a = g.n > 0 ? *g.a : 0.0f;  // out may be a or b
  const float first_b = g.n > 0 ? *g.b : 0.0f;
  for (int64_t i = 0; i < g.n; ++i) {
    const float a = g.a_step == 0 ? first_a : g.a[i];
    const float b = g.b_step == 0 ? first_b : g.b[i];
    g.out[i] = b == 2.0f ? a * a : __builtin_powf(a, b);
  }
}

inline void binary_run(const taille::BinaryArgs& g) {
  using taille::BinaryOp;
  switch (g.op) {
    case BinaryOp::add:
      return map2(g, [](V16 a, V16 b) { return a + b; });
    case BinaryOp::sub:
      return map2(g, [](V16 a, V16 b) { return a - b; });
    case BinaryOp::mul:
      return map2(g, [](V16 a, V16 b) { return a * b; });
    case BinaryOp::div:
      return map2(g, [](V16 a, V16 b) { return a / b; });
    case BinaryOp::minimum:
      return map2(g, [](V16 a, V16 b) { return select(is_nan(a), a, min(a, b)); });
    case BinaryOp::maximum:
      return map2(g, [](V16 a, V16 b) { return select(is_nan(a), a, max(a, b)); });
    case BinaryOp::pow:
      return pow_run(g);
  }
}

}  // namespace
