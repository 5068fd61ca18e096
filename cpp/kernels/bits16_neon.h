// 16 lanes of int32 beside the floats of vec16_neon.h. See bits16_portable.h for what each word means.
#pragma once

#include "kernels/vec16_neon.h"

namespace {

constexpr int kLanes = 16;

struct I16 {
  int32x4_t a, b, c, d;
};

inline I16 bits(V16 x) {
  return {vreinterpretq_s32_f32(x.a), vreinterpretq_s32_f32(x.b), vreinterpretq_s32_f32(x.c),
          vreinterpretq_s32_f32(x.d)};
}
inline I16 splat_bits(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x)}; }
inline I16 load_bits(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}; }
inline void store_bits(int32_t* p, I16 x) {
  vst1q_s32(p, x.a);
  vst1q_s32(p + 4, x.b);
  vst1q_s32(p + 8, x.c);
  vst1q_s32(p + 12, x.d);
}
inline I16 operator-(I16 x, I16 y) {
  return {vsubq_s32(x.a, y.a), vsubq_s32(x.b, y.b), vsubq_s32(x.c, y.c), vsubq_s32(x.d, y.d)};
}
inline I16 shift_right(I16 x, int count) {
  const int32x4_t by = vdupq_n_s32(-count);
  return {vshlq_s32(x.a, by), vshlq_s32(x.b, by), vshlq_s32(x.c, by), vshlq_s32(x.d, by)};
}
// A table of 32 bytes: each half of x by the bytes of its own indices.
inline void permute_half(int32x4_t low, int32x4_t high, int32x4_t& first, int32x4_t& second) {
  const uint8x16x2_t table = {vreinterpretq_u8_s32(low), vreinterpretq_u8_s32(high)};
  const auto look_up = [&](int32x4_t index) {
    const uint32x4_t lane = vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(7));
    const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100), lane, 0x04040404);
    return vreinterpretq_s32_u8(vqtbl2q_u8(table, vreinterpretq_u8_u32(bytes)));
  };
  first = look_up(first);
  second = look_up(second);
}
inline I16 permute(I16 x, I16 index) {
  permute_half(x.a, x.b, index.a, index.b);
  permute_half(x.c, x.d, index.c, index.d);
  return index;
}
inline I16 add_if_greater(I16 sum, I16 x, I16 y) {
  const auto add = [](int32x4_t s, int32x4_t p, int32x4_t q) {
    return vsubq_s32(s, vreinterpretq_s32_u32(vcgtq_s32(p, q)));
  };
  return {add(sum.a, x.a, y.a), add(sum.b, x.b, y.b), add(sum.c, x.c, y.c), add(sum.d, x.d, y.d)};
}
inline uint32_t lanes_set(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d) {
  const uint16x8_t low = vcombine_u16(vmovn_u32(a), vmovn_u32(b)), high = vcombine_u16(vmovn_u32(c), vmovn_u32(d));
  const uint8x16_t bytes = vcombine_u8(vmovn_u16(low), vmovn_u16(high));
  constexpr uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t set = vandq_u8(bytes, vld1q_u8(kBits));
  return static_cast<uint32_t>(vaddv_u8(vget_low_u8(set)) | vaddv_u8(vget_high_u8(set)) << 8);
}
inline uint32_t greater(I16 x, I16 y) {
  return lanes_set(vcgtq_s32(x.a, y.a), vcgtq_s32(x.b, y.b), vcgtq_s32(x.c, y.c), vcgtq_s32(x.d, y.d));
}
inline uint32_t equal(I16 x, I16 y) {
  return lanes_set(vceqq_s32(x.a, y.a), vceqq_s32(x.b, y.b), vceqq_s32(x.c, y.c), vceqq_s32(x.d, y.d));
}

inline void store_mask(uint8_t* p, uint32_t mask) {  // a byte of the mask to each half, then a bit of it to each byte
  constexpr uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t spread =
      vcombine_u8(vdup_n_u8(static_cast<uint8_t>(mask)), vdup_n_u8(static_cast<uint8_t>(mask >> 8)));
  vst1q_u8(p, vandq_u8(vtstq_u8(spread, vld1q_u8(kBits)), vdupq_n_u8(1)));
}
inline void store_mask_n(uint8_t* p, uint32_t mask, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = mask >> i & 1;
}

}  // namespace
