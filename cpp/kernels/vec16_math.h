// exp, log, tanh and erf over V16, for the errors promised in elementwise.h, and what all algorithms share. Include
// after one vec16_*.h.
//
// The polynomials are near-minimax fits made for this file: least squares on Chebyshev nodes in double precision,
// weighted for relative error and reweighted towards the largest errors (Lawson), then rounded to float.
#pragma once

#include <cstdint>

namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kLn2High = 0.693145752f;  // ln 2 = high + low; 9 low bits of high are zero, so k * high is exact
constexpr float kLn2Low = 1.42860677e-6f;

// c[0] + c[1] x + ... by Horner
template <int N>
[[gnu::always_inline]] inline V16 polynomial(V16 x, const float (&c)[N]) {
  V16 r = splat(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) r = fma(r, x, splat(c[i]));
  return r;
}

constexpr float kExpLowest = -87.3365402f;  // below, the result would be denormal: 0
constexpr float kExpHighest = 88.7228394f;  // above, it overflows: inf

// e^x for x in [kExpLowest, kExpHighest]; anything elsewhere. x = k ln 2 + r with |r| <= ln 2 / 2; error of the
// polynomial 3.1e-9. The sum with 1.5 * 2^23 rounds x / ln 2 to the integer k and leaves k in its low bits.
[[gnu::always_inline]] inline V16 exp_in_range(V16 x) {
  const V16 shift = splat(12582912.0f);
  const V16 t = fma(x, splat(1.44269504f), shift);
  const V16 k = t - shift;
  V16 r = fma(k, splat(-kLn2High), x);
  r = fma(k, splat(-kLn2Low), r);
  const V16 q = polynomial(r, {0.49999994f, 0.166665211f, 0.041668389f, 0.00836874545f, 0.00138145383f});
  return add_exponent(splat(1.0f) + fma(r * r, q, r), t);
}

// x * max float is -inf, inf or NaN where x is out of range.
[[gnu::always_inline]] inline V16 exp(V16 x) {
  const M16 in_range = both(less_equal(splat(kExpLowest), x), less_equal(x, splat(kExpHighest)));
  return select(in_range, exp_in_range(x), max(splat(0.0f), x * splat(3.40282347e38f)));
}

// For x <= 0 or NaN: two instructions less.
[[gnu::always_inline]] inline V16 exp_nonpositive(V16 x) {
  return select(less_equal(splat(kExpLowest), x), exp_in_range(x), max(splat(0.0f), x));
}

// x = 2^e m; ln m = f - f^2/2 + f^3 P(f) with f = m - 1, error of P 7.5e-10. Denormals are scaled by 2^23 first.
[[gnu::always_inline]] inline V16 log(V16 x) {
  const V16 zero = splat(0.0f);
  const M16 tiny = less(x, splat(1.17549435e-38f));
  V16 m, e;
  split_exponent(select(tiny, x * splat(8388608.0f), x), m, e);
  e = e - select(tiny, splat(23.0f), zero);
  const V16 f = m - splat(1.0f);
  const V16 s = f * f;
  V16 r = f * s *
          polynomial(f, {0.333333135f, -0.250000089f, 0.200021192f, -0.166679963f, 0.142195508f, -0.124055915f,
                         0.118881747f, -0.116756409f, 0.0674660131f});
  r = fma(e, splat(kLn2Low), r);
  r = fma(s, splat(-0.5f), r);
  r = fma(e, splat(kLn2High), f + r);
  const V16 negative = select(less(x, zero), splat(__builtin_nanf("")), x);
  const V16 special = select(both(less_equal(x, zero), less_equal(zero, x)), splat(-kInfinity), negative);
  return select(both(less(zero, x), less(x, splat(kInfinity))), r, special);
}

// |x| < 0.65: x + x^3 P(x^2), error 6.8e-9; else 1 - 2 / (e^2|x| + 1)
[[gnu::always_inline]] inline V16 tanh(V16 x) {
  const V16 one = splat(1.0f);
  const V16 a = absolute(x);
  const V16 u = x * x;
  const V16 small =
      fma(x * u, polynomial(u, {-0.333332598f, 0.133308306f, -0.0536880232f, 0.0204694234f, -0.00551516702f}), x);
  const V16 large = one - splat(2.0f) / (exp(a + a) + one);
  return copy_sign(select(less(a, splat(0.65f)), small, large), x);  // tanh(-0) is -0
}

// |x| < 0.9: x + x P(x^2), error 1.2e-8; else 1 - e^Q(|x|) with Q = ln erfc, whose error weighs only erfc / erf:
// 1.7e-9 of the result. Beyond 4 the result is 1.
[[gnu::always_inline]] inline V16 erf(V16 x) {
  const V16 a = absolute(x);
  const V16 u = x * x;
  const V16 small = fma(
      x, polynomial(u, {0.128379151f, -0.376125246f, 0.112821415f, -0.0267789252f, 0.00501198228f, -0.000609044801f}),
      x);
  const V16 ln_erfc = polynomial(min(splat(4.0f), a), {-0.000166439073f, -1.12779725f, -0.636976004f, -0.104113743f,
                                                       0.0223152488f, -0.00306549971f, 0.000198220703f});
  const V16 large = splat(1.0f) - exp_in_range(ln_erfc);
  const V16 r = select(less(a, splat(0.9f)), small, copy_sign(large, x));
  return select(is_nan(x), x, r);
}

[[gnu::always_inline]] inline V16 sigmoid(V16 x) { return splat(1.0f) / (splat(1.0f) + exp(negate(x))); }

// The first min(n, 16) lanes.
[[gnu::always_inline]] inline V16 load_upto(const float* p, int64_t n, V16 fill) {
  return n >= 16 ? load(p) : load_n(p, n, fill);
}
[[gnu::always_inline]] inline void store_upto(float* p, V16 v, int64_t n) {
  if (n >= 16)
    store(p, v);
  else
    store_n(p, v, n);
}

// f(i, lanes) for i = 0, 16 V, ... below n. `lanes` is the constant 16 V in all calls but a last, partial one, so that
// load_upto and store_upto cost nothing there.
template <int V = 1, class F>
[[gnu::always_inline]] inline void for_vectors(int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 * V <= n; i += 16 * V) f(i, int64_t{16 * V});
  if (i < n) f(i, n - i);
}

// min(max(v, lo), hi) that keeps NaN
[[gnu::always_inline]] inline V16 clamp(V16 v, V16 lo, V16 hi) { return min(hi, max(lo, v)); }

}  // namespace
