// The vector vocabulary for AArch64: 16 float lanes in four registers. See vec16_portable.h for what each word means.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "base/half.h"

namespace {

constexpr int kVectorsLive = 4;  // V16 accumulators that fit in registers beside their operands
// Tiles of a matrix product: the widest of many rows in vectors, and the most rows by width. At least 8 accumulators
// hide the latency of fma; rows need a general register each.
constexpr int kTileVectors = 1;
constexpr int kTileRows[] = {0, 5, 2, 1, 1};  // a sixth row would leave no registers for the column
constexpr int kRowSteps = 4;

using Quarter = float32x4_t;
struct V16 {
  Quarter a, b, c, d;
};
struct M16 {
  uint32x4_t a, b, c, d;
};

template <class F>
[[gnu::always_inline]] inline V16 by_quarters(F f, const V16& x) {
  return {f(x.a), f(x.b), f(x.c), f(x.d)};
}
template <class F>
[[gnu::always_inline]] inline V16 by_quarters(F f, const V16& x, const V16& y) {
  return {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)};
}
template <class F>
[[gnu::always_inline]] inline M16 masks_of(F f, const V16& x, const V16& y) {
  return {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)};
}

// The first n lanes, whatever lies there; n may be any number.
inline Quarter load_quarter(const void* p, int64_t n, Quarter fill) {
  const auto* from = static_cast<const uint8_t*>(p);
  if (n >= 4) __builtin_memcpy(&fill, from, 16);
  if (n <= 0 || n >= 4) return fill;
  float x;
  __builtin_memcpy(&x, from, 4);
  fill = vsetq_lane_f32(x, fill, 0);
  if (n > 1) {
    __builtin_memcpy(&x, from + 4, 4);
    fill = vsetq_lane_f32(x, fill, 1);
  }
  if (n > 2) {
    __builtin_memcpy(&x, from + 8, 4);
    fill = vsetq_lane_f32(x, fill, 2);
  }
  return fill;
}
inline void store_quarter(float* p, Quarter v, int64_t n) {
  if (n >= 4) return vst1q_f32(p, v);
  if (n > 0) vst1q_lane_f32(p, v, 0);
  if (n > 1) vst1q_lane_f32(p + 1, v, 1);
  if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}

inline V16 splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline V16 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
inline V16 load_n(const float* p, int64_t n, V16 fill) {
  return {load_quarter(p, n, fill.a), load_quarter(p + 4, n - 4, fill.b), load_quarter(p + 8, n - 8, fill.c),
          load_quarter(p + 12, n - 12, fill.d)};
}
inline void store(float* p, V16 x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
inline void store_n(float* p, V16 x, int64_t n) {
  store_quarter(p, x.a, n);
  store_quarter(p + 4, x.b, n - 4);
  store_quarter(p + 8, x.c, n - 8);
  store_quarter(p + 12, x.d, n - 12);
}

inline uint16x8_t rounded_words(Quarter low, Quarter high) {  // saturated; NaN is 0
  return vqmovn_high_u32(vqmovn_u32(vcvtnq_u32_f32(low)), vcvtnq_u32_f32(high));
}
inline uint8x16_t rounded_bytes(V16 x) {
  return vqmovn_high_u16(vqmovn_u16(rounded_words(x.a, x.b)), rounded_words(x.c, x.d));
}
inline void store_bytes(uint8_t* p, V16 x) { vst1q_u8(p, rounded_bytes(x)); }
inline void store_clamped(uint8_t* p, const V16 (&v)[4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, rounded_bytes(v[i]));
}
inline int32_t sum_bytes(const uint8_t* p, int64_t n) {
  uint32x4_t sums = vdupq_n_u32(0);
  for (; n >= 16; n -= 16, p += 16) sums = vpadalq_u16(sums, vpaddlq_u8(vld1q_u8(p)));
  auto total = static_cast<int32_t>(vaddvq_u32(sums));
  for (int64_t i = 0; i < n; ++i) total += p[i];
  return total;
}

inline V16 load(const taille::F16* p) {
  const auto quarter = [p](int i) {
    uint16x4_t bits;
    __builtin_memcpy(&bits, p + 4 * i, sizeof bits);
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
  };
  return {quarter(0), quarter(1), quarter(2), quarter(3)};
}
inline V16 load(const taille::BF16* p) {
  const auto quarter = [p](int i) {
    uint16x4_t bits;
    __builtin_memcpy(&bits, p + 4 * i, sizeof bits);
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  };
  return {quarter(0), quarter(1), quarter(2), quarter(3)};
}
inline void store(taille::F16* p, V16 x) {
  const auto put = [p](int i, Quarter v) {
    const uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(v));
    __builtin_memcpy(p + 4 * i, &bits, sizeof bits);
  };
  put(0, x.a);
  put(1, x.b);
  put(2, x.c);
  put(3, x.d);
}
inline uint16x4_t upper_half(Quarter x) {  // rounded; a NaN made quiet
  const uint32x4_t bits = vreinterpretq_u32_f32(x), up = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(up, vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd), 16);
  const uint32x4_t quiet = vorrq_u32(up, vdupq_n_u32(0x40));
  return vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet));
}
inline void store(taille::BF16* p, V16 x) {
  const uint16x8_t low = vcombine_u16(upper_half(x.a), upper_half(x.b));
  const uint16x8_t high = vcombine_u16(upper_half(x.c), upper_half(x.d));
  __builtin_memcpy(p, &low, sizeof low);
  __builtin_memcpy(p + 8, &high, sizeof high);
}

inline Quarter lower_of(Quarter x, Quarter y) { return vbslq_f32(vcltq_f32(x, y), x, y); }  // fmin would keep any NaN
inline Quarter higher_of(Quarter x, Quarter y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }

inline V16 operator+(V16 x, V16 y) { return by_quarters(vaddq_f32, x, y); }
inline V16 operator-(V16 x, V16 y) { return by_quarters(vsubq_f32, x, y); }
inline V16 operator*(V16 x, V16 y) { return by_quarters(vmulq_f32, x, y); }
inline V16 operator/(V16 x, V16 y) { return by_quarters(vdivq_f32, x, y); }
inline V16 fma(V16 x, V16 y, V16 z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
inline V16 sqrt(V16 x) { return by_quarters(vsqrtq_f32, x); }
inline V16 min(V16 x, V16 y) {
  return {lower_of(x.a, y.a), lower_of(x.b, y.b), lower_of(x.c, y.c), lower_of(x.d, y.d)};
}
inline V16 max(V16 x, V16 y) {
  return {higher_of(x.a, y.a), higher_of(x.b, y.b), higher_of(x.c, y.c), higher_of(x.d, y.d)};
}

// kRowSteps floats of a row, of which fma takes one.
using RowFloats = float32x4_t;
inline RowFloats load_row(const float* p) { return vld1q_f32(p); }
template <int P>
[[gnu::always_inline]] inline V16 fma_lane(RowFloats row, V16 y, V16 z) {
  return {vfmaq_laneq_f32(z.a, y.a, row, P), vfmaq_laneq_f32(z.b, y.b, row, P), vfmaq_laneq_f32(z.c, y.c, row, P),
          vfmaq_laneq_f32(z.d, y.d, row, P)};
}

inline V16 negate(V16 x) { return by_quarters(vnegq_f32, x); }
inline V16 absolute(V16 x) { return by_quarters(vabsq_f32, x); }
inline V16 copy_sign(V16 magnitude, V16 sign) {
  const uint32x4_t bit = vdupq_n_u32(0x80000000u);
  return by_quarters([=](Quarter m, Quarter s) { return vbslq_f32(bit, s, m); }, magnitude, sign);
}

inline M16 less(V16 x, V16 y) { return masks_of(vcltq_f32, x, y); }
inline M16 less_equal(V16 x, V16 y) { return masks_of(vcleq_f32, x, y); }
inline M16 is_nan(V16 x) {
  return masks_of([](Quarter q, Quarter) { return vmvnq_u32(vceqq_f32(q, q)); }, x, x);
}
inline M16 both(M16 x, M16 y) {
  return {vandq_u32(x.a, y.a), vandq_u32(x.b, y.b), vandq_u32(x.c, y.c), vandq_u32(x.d, y.d)};
}
inline V16 select(M16 m, V16 x, V16 y) {
  return {vbslq_f32(m.a, x.a, y.a), vbslq_f32(m.b, x.b, y.b), vbslq_f32(m.c, x.c, y.c), vbslq_f32(m.d, x.d, y.d)};
}

inline V16 add_exponent(V16 x, V16 n) {
  const auto add = [](Quarter v, Quarter k) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), vshlq_n_s32(vreinterpretq_s32_f32(k), 23)));
  };
  return by_quarters(add, x, n);
}
inline void split_exponent(Quarter x, Quarter& mantissa, Quarter& exponent) {
  const int32x4_t bits = vreinterpretq_s32_f32(x);
  const int32x4_t e = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3F3504F3)), 23);
  mantissa = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(e, 23)));
  exponent = vcvtq_f32_s32(e);
}
inline void split_exponent(V16 x, V16& mantissa, V16& exponent) {
  split_exponent(x.a, mantissa.a, exponent.a);
  split_exponent(x.b, mantissa.b, exponent.b);
  split_exponent(x.c, mantissa.c, exponent.c);
  split_exponent(x.d, mantissa.d, exponent.d);
}

// 4 x 4: row(j)[d] becomes column d's lane j. What is moved are registers, whatever lies in them.
[[gnu::always_inline]] inline void transpose4(Quarter (&v)[4]) {
  const auto pairs = [](Quarter x) { return vreinterpretq_f64_f32(x); };
  const auto whole = [](float64x2_t x) { return vreinterpretq_f32_f64(x); };
  const Quarter a = vtrn1q_f32(v[0], v[1]), b = vtrn2q_f32(v[0], v[1]);
  const Quarter c = vtrn1q_f32(v[2], v[3]), d = vtrn2q_f32(v[2], v[3]);
  v[0] = whole(vtrn1q_f64(pairs(a), pairs(c)));
  v[1] = whole(vtrn1q_f64(pairs(b), pairs(d)));
  v[2] = whole(vtrn2q_f64(pairs(a), pairs(c)));
  v[3] = whole(vtrn2q_f64(pairs(b), pairs(d)));
}
// row(j) is a pointer to elements of 4 bytes, of which `dim` are there; to and width in bytes.
template <class Row>
inline void transpose_any(Row row, int64_t rows, int64_t dim, uint8_t* to, int64_t width) {
  for (int64_t d = 0; d < dim; d += 4)
    for (int64_t j = 0; j < 16; j += 4) {
      Quarter v[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        v[i] = vdupq_n_f32(0.0f);
        if (j + i < rows) v[i] = load_quarter(row(j + i) + 4 * d, dim - d, v[i]);
      }
      transpose4(v);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        if (d + i < dim) __builtin_memcpy(to + (d + i) * width + 4 * j, &v[i], 16);
    }
}
template <class Row>
inline void transpose_rows(Row row, int64_t rows, int64_t dim, float* to, int64_t width) {
  transpose_any([=](int64_t j) { return reinterpret_cast<const uint8_t*>(row(j)); }, rows, dim,
                reinterpret_cast<uint8_t*>(to), 4 * width);
}
inline void transpose16(const float* from, int64_t stride, int64_t rows, int64_t dim, float* to, int64_t width) {
  transpose_rows([=](int64_t j) { return from + j * stride; }, rows, dim, to, width);
}
inline void transpose16_bits(const uint8_t* from, int64_t stride, int64_t rows, int64_t dim, uint8_t* to,
                             int64_t width) {
  transpose_any([=](int64_t j) { return from + j * stride; }, rows, dim, to, width);
}

inline float reduce_add(V16 x) {
  const Quarter q = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
  return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
inline float reduce_max(V16 x) {
  const Quarter q = higher_of(higher_of(x.a, x.c), higher_of(x.b, x.d));
  const Quarter d = higher_of(q, vextq_f32(q, q, 2));
  return vgetq_lane_f32(higher_of(d, vextq_f32(d, d, 1)), 0);
}

}  // namespace
