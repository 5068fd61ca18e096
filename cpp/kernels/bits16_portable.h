// 16 lanes of int32 beside the floats of vec16_portable.h: what reads floats as integers. Like those, every word gives
// the same bits at every level.
//
//   bits             the bits of 16 floats
//   shift_right      by 0 .. 31; what is negative becomes anything
//   permute          lane i gets lane index[i], which must lie in the same half (of 8 lanes)
//   add_if_greater   sum + (a > b), signed
//   greater, equal   bit i says so of lane i; signed
//   store_mask       byte i is 1 where bit i is set, else 0; store_mask_n writes the first n bytes only
#pragma once

#include "kernels/vec16_portable.h"

namespace {

struct I16 {
  int32_t v[kLanes];
};

template <class F>
inline I16 per_int_lane(F f) {
  I16 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f(i);
  return r;
}
template <class F>
inline uint32_t lanes_where(F f) {
  uint32_t r = 0;
  for (int i = 0; i < kLanes; ++i) r |= static_cast<uint32_t>(f(i)) << i;
  return r;
}

inline I16 bits(V16 a) {
  return per_int_lane([&](int i) { return static_cast<int32_t>(bits_of(a.v[i])); });
}
inline I16 splat_bits(int32_t x) {
  return per_int_lane([=](int) { return x; });
}
inline I16 load_bits(const int32_t* p) {
  return per_int_lane([=](int i) { return p[i]; });
}
inline void store_bits(int32_t* p, I16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = a.v[i];
}
inline I16 operator-(I16 a, I16 b) {
  return per_int_lane([&](int i) { return a.v[i] - b.v[i]; });
}
inline I16 shift_right(I16 a, int count) {
  return per_int_lane([&](int i) { return a.v[i] >> count; });
}
inline I16 permute(I16 a, I16 index) {
  return per_int_lane([&](int i) { return a.v[index.v[i]]; });
}
inline I16 add_if_greater(I16 sum, I16 a, I16 b) {
  return per_int_lane([&](int i) { return sum.v[i] + (a.v[i] > b.v[i]); });
}
inline uint32_t greater(I16 a, I16 b) {
  return lanes_where([&](int i) { return a.v[i] > b.v[i]; });
}
inline uint32_t equal(I16 a, I16 b) {
  return lanes_where([&](int i) { return a.v[i] == b.v[i]; });
}

inline void store_mask_n(uint8_t* p, uint32_t mask, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = mask >> i & 1;
}
inline void store_mask(uint8_t* p, uint32_t mask) { store_mask_n(p, mask, kLanes); }

}  // namespace
