// The vector vocabulary: every float kernel but the reference is written once, over 16 lanes of float, and built for
// each level, with one of vec16_{portable,avx2,avx512,neon}.h. Each word is one IEEE operation (or a move, or integer
// arithmetic on the bits), so all levels give the same bits. Everything lives in an anonymous namespace: a copy built
// with wide instructions must never be the one that another file links to.
//
//   load_n / store_n   the first n lanes (0 <= n <= 16), touching no byte of the others; `fill` gives the others
//   load of F16, BF16; store to them   16 values, converted as half.h says
//   min, max           a < b ? a : b and a > b ? a : b, so b where either is NaN (what SSE does)
//   store_bytes        16 bytes, rounded half to even, of values from 0 to 255
//   store_clamped      64 bytes, rounded half to even and clamped, of any values; NaN gives 0
//   sum_bytes          the sum of n bytes, n < 2^24
//   less, less_equal   false where either is NaN
//   add_exponent       a * 2^k, k the low bits of the float n = 1.5 * 2^23 + k; the result must be normal
//   split_exponent     x = mantissa * 2^exponent with mantissa in [sqrt(1/2), sqrt(2)), x positive and normal
//   transpose_rows     to[d*width + j] = row(j)[d] for d < dim, j < rows, j < 16; 0 for rows <= j < 16
//   transpose16        the same for row(j) = from + j*stride
//   transpose16_bits   the same for any 4 bytes; from, to, stride and width in bytes, dim in groups of 4
//   kRowSteps          floats of a row that are loaded at once; where they are more than one, load_row loads them and
//                      fma_lane<P>(row, b, c) is fma(splat(row[P]), b, c)
//   reduce_add, _max   lane i with i+8, then +4, +2, +1
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace {

constexpr int kVectorsLive = 1;  // V16 accumulators that fit in registers beside their operands
// Tiles of a matrix product: the widest in vectors, and the most rows by width. At least 8 accumulators hide the
// latency of fma; rows need a general register each.
constexpr int kTileVectors = 1;
constexpr int kTileRows[] = {0, 4};
constexpr int kRowSteps = 1;
constexpr int kLanes = 16;

struct V16 {
  float v[kLanes];
};
struct M16 {
  bool m[kLanes];
};

template <class F>
inline V16 per_lane(F f) {
  V16 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f(i);
  return r;
}
template <class F>
inline M16 per_lane_mask(F f) {
  M16 r;
  for (int i = 0; i < kLanes; ++i) r.m[i] = f(i);
  return r;
}
inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
inline float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

inline V16 splat(float x) {
  return per_lane([=](int) { return x; });
}
inline V16 load(const float* p) {
  return per_lane([=](int i) { return p[i]; });
}
inline V16 load_n(const float* p, int64_t n, V16 fill) {
  return per_lane([&](int i) { return i < n ? p[i] : fill.v[i]; });
}
inline void store(float* p, V16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = a.v[i];
}
inline void store_n(float* p, V16 a, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}

inline void store_bytes(uint8_t* p, V16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(std::nearbyint(a.v[i]));
}

inline void store_clamped(uint8_t* p, const V16 (&v)[4]) {
  for (int i = 0; i < 4 * kLanes; ++i) {
    const float a = v[i / kLanes].v[i % kLanes];
    p[i] = static_cast<uint8_t>(std::nearbyint(a > 0 ? (a < 255 ? a : 255.0f) : 0.0f));
  }
}

inline int32_t sum_bytes(const uint8_t* p, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += p[i];
  return sum;
}

inline float widen(taille::F16 half) {
  const uint32_t magnitude = half.bits & 0x7FFFu, sign = (half.bits & 0x8000u) << 16;
  if (magnitude > 0x7C00) return float_of(sign | 0x7FC00000u | magnitude << 13);
  if (magnitude == 0x7C00) return float_of(sign | 0x7F800000u);
  if (magnitude >= 0x400) return float_of(sign | ((magnitude << 13) + 0x38000000u));
  return float_of(sign | bits_of(static_cast<float>(magnitude) * 0x1p-24f));
}
inline float widen(taille::BF16 half) { return float_of(static_cast<uint32_t>(half.bits) << 16); }
inline taille::F16 narrow(float x, taille::F16) {
  const uint32_t magnitude = bits_of(x) & 0x7FFFFFFFu, sign = bits_of(x) >> 16 & 0x8000u;
  uint32_t out;
  if (magnitude > 0x7F800000u)
    out = 0x7E00 | (magnitude >> 13 & 0x3FF);
  else if (magnitude >= 0x477FF000u)  // 65520
    out = 0x7C00;
  else if (magnitude >= 0x38800000u)  // normal in float16
    out = (magnitude + 0xFFF + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  else  // the addition rounds: the unit of 0.5 is that of a denormal float16
    out = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  return {static_cast<uint16_t>(sign | out)};
}
inline taille::BF16 narrow(float x, taille::BF16) {
  const uint32_t bits = bits_of(x);
  if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <class Half>
inline V16 load(const Half* p) {
  return per_lane([=](int i) { return widen(p[i]); });
}
template <class Half>
inline void store(Half* p, V16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = narrow(a.v[i], Half{});
}

inline V16 operator+(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] + b.v[i]; });
}
inline V16 operator-(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] - b.v[i]; });
}
inline V16 operator*(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] * b.v[i]; });
}
inline V16 operator/(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] / b.v[i]; });
}
inline V16 fma(V16 a, V16 b, V16 c) {
  return per_lane([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline V16 sqrt(V16 a) {
  return per_lane([&](int i) { return std::sqrt(a.v[i]); });
}
inline V16 min(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline V16 max(V16 a, V16 b) {
  return per_lane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

inline V16 negate(V16 a) {
  return per_lane([&](int i) { return -a.v[i]; });
}
inline V16 absolute(V16 a) {
  return per_lane([&](int i) { return std::fabs(a.v[i]); });
}
inline V16 copy_sign(V16 magnitude, V16 sign) {
  return per_lane([&](int i) { return std::copysign(magnitude.v[i], sign.v[i]); });
}

inline M16 less(V16 a, V16 b) {
  return per_lane_mask([&](int i) { return a.v[i] < b.v[i]; });
}
inline M16 less_equal(V16 a, V16 b) {
  return per_lane_mask([&](int i) { return a.v[i] <= b.v[i]; });
}
inline M16 is_nan(V16 a) {
  return per_lane_mask([&](int i) { return a.v[i] != a.v[i]; });
}
inline M16 both(M16 a, M16 b) {
  return per_lane_mask([&](int i) { return a.m[i] && b.m[i]; });
}
inline V16 select(M16 m, V16 a, V16 b) {
  return per_lane([&](int i) { return m.m[i] ? a.v[i] : b.v[i]; });
}

inline V16 add_exponent(V16 a, V16 n) {
  return per_lane([&](int i) { return float_of(bits_of(a.v[i]) + (bits_of(n.v[i]) << 23)); });
}
inline void split_exponent(V16 x, V16& mantissa, V16& exponent) {
  for (int i = 0; i < kLanes; ++i) {
    const uint32_t bits = bits_of(x.v[i]);
    const int32_t e = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
    mantissa.v[i] = float_of(bits - (static_cast<uint32_t>(e) << 23));
    exponent.v[i] = static_cast<float>(e);
  }
}

template <class Row>
inline void transpose_rows(Row row, int64_t rows, int64_t dim, float* to, int64_t width) {
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t j = 0; j < kLanes; ++j) to[d * width + j] = j < rows ? row(j)[d] : 0.0f;
}
inline void transpose16(const float* from, int64_t stride, int64_t rows, int64_t dim, float* to, int64_t width) {
  transpose_rows([=](int64_t j) { return from + j * stride; }, rows, dim, to, width);
}

inline void transpose16_bits(const uint8_t* from, int64_t stride, int64_t rows, int64_t dim, uint8_t* to,
                             int64_t width) {
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t j = 0; j < kLanes; ++j) {
      if (j < rows)
        std::memcpy(to + d * width + 4 * j, from + j * stride + 4 * d, 4);
      else
        std::memset(to + d * width + 4 * j, 0, 4);
    }
}

template <class F>
inline float reduce(V16 a, F f) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] = f(a.v[i], a.v[i + half]);
  return a.v[0];
}
inline float reduce_add(V16 a) {
  return reduce(a, [](float x, float y) { return x + y; });
}
inline float reduce_max(V16 a) {
  return reduce(a, [](float x, float y) { return x > y ? x : y; });
}

}  // namespace
