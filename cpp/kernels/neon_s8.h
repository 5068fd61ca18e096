// The words of avx512_s8.h for AArch64, in vectors of 16 bytes; see there for the rules.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace taille {
namespace {

using I = int32x4_t;
using F = float32x4_t;
constexpr int kLanes = 4;
constexpr int kBytes = 16;

inline uint8x16_t u8(I a) { return vreinterpretq_u8_s32(a); }
inline I of_u8(uint8x16_t a) { return vreinterpretq_s32_u8(a); }

// n < 16 bytes, without reading past them.
inline I load_part(const uint8_t* p, int64_t n) {
  alignas(16) uint8_t bytes[16] = {};
  int64_t done = 0;
  if (n & 8) {
    __builtin_memcpy(bytes, p, 8);
    done = 8;
  }
  if (n & 4) {
    __builtin_memcpy(bytes + done, p + done, 4);
    done += 4;
  }
  for (; done < n; ++done) bytes[done] = p[done];
  return of_u8(vld1q_u8(bytes));
}
inline void store_part(uint8_t* p, I v, int64_t n) {
  alignas(16) uint8_t bytes[16];
  vst1q_u8(bytes, u8(v));
  int64_t done = 0;
  if (n & 8) {
    __builtin_memcpy(p, bytes, 8);
    done = 8;
  }
  if (n & 4) {
    __builtin_memcpy(p + done, bytes + done, 4);
    done += 4;
  }
  for (; done < n; ++done) p[done] = bytes[done];
}

inline I load_whole(const void* p) {
  I v;
  __builtin_memcpy(&v, p, kBytes);
  return v;
}
inline void store_whole(void* p, I v) { __builtin_memcpy(p, &v, kBytes); }

inline I load_bytes(const void* p, int64_t n) {
  if (n >= kBytes) return load_whole(p);
  return n <= 0 ? vdupq_n_s32(0) : load_part(static_cast<const uint8_t*>(p), n);
}
inline void store_bytes(void* p, I v, int64_t n) {
  if (n >= kBytes)
    store_whole(p, v);
  else if (n > 0)
    store_part(static_cast<uint8_t*>(p), v, n);
}
template <int kWidth>
inline I load_pixels(const uint8_t* p, int64_t, int64_t n) {
  static_assert(kWidth == kBytes);
  return load_bytes(p, n);
}
template <int kWidth>
inline void store_pixels(uint8_t* p, int64_t, I v, int64_t n, int64_t) {
  static_assert(kWidth == kBytes);
  store_bytes(p, v, n);
}
inline I load_s32(const int32_t* p, int64_t n) {
  if (n >= kLanes) return vld1q_s32(p);
  I v = vdupq_n_s32(0);
  if (n > 0) v = vld1q_lane_s32(p, v, 0);
  if (n > 1) v = vld1q_lane_s32(p + 1, v, 1);
  if (n > 2) v = vld1q_lane_s32(p + 2, v, 2);
  return v;
}
inline F load_f32(const float* p, int64_t n) {
  if (n >= kLanes) return vld1q_f32(p);
  F v = vdupq_n_f32(0.0f);
  if (n > 0) v = vld1q_lane_f32(p, v, 0);
  if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
  if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
  return v;
}
inline void store_f32(float* p, F v, int64_t n) {
  if (n >= kLanes) return vst1q_f32(p, v);
  if (n > 0) vst1q_lane_f32(p, v, 0);
  if (n > 1) vst1q_lane_f32(p + 1, v, 1);
  if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}
inline I load_u8_as_s32(const uint8_t* p, int64_t n) {
  uint32_t four = 0;
  if (n >= kLanes)
    __builtin_memcpy(&four, p, sizeof four);
  else
    for (int64_t i = 0; i < n; ++i) four |= static_cast<uint32_t>(p[i]) << (8 * i);
  const uint8x8_t bytes = vreinterpret_u8_u32(vset_lane_u32(four, vdup_n_u32(0), 0));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
inline void copy_over(uint8_t* to, const uint8_t* from, int64_t n) {
  int64_t done = 0;
  for (; done + kBytes <= n; done += kBytes) store_whole(to + done, load_whole(from + done));
  if (done < n) store_part(to + done, load_part(from + done, n - done), n - done);
}
inline I broadcast4(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof x);
  return vdupq_n_s32(x);
}
inline void keep(I& x) { asm("" : "+w"(x)); }

inline I zero() { return vdupq_n_s32(0); }
inline I all_s32(int32_t x) { return vdupq_n_s32(x); }
inline I all_bytes(uint8_t x) { return of_u8(vdupq_n_u8(x)); }
inline F all_f32(float x) { return vdupq_n_f32(x); }
inline I add_s32(I a, I b) { return vaddq_s32(a, b); }
inline I sub_s32(I a, I b) { return vsubq_s32(a, b); }
inline I min_u8(I a, I b) { return of_u8(vminq_u8(u8(a), u8(b))); }
inline I max_u8(I a, I b) { return of_u8(vmaxq_u8(u8(a), u8(b))); }
inline F to_f32(I a) { return vcvtq_f32_s32(a); }
inline I round_half_even(F a) { return vcvtnq_s32_f32(a); }  // saturates; NaN gives 0, which is packed as the least is
inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
inline F add(F a, F b) { return vaddq_f32(a, b); }
inline F mul(F a, F b) { return vmulq_f32(a, b); }
inline F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F clamp(F v, F lo, F hi) { return min(max(v, lo), hi); }
inline F cap(F v, F hi) { return min(hi, v); }

inline I interleave_low8(I a, I b) { return of_u8(vzip1q_u8(u8(a), u8(b))); }
inline I interleave_high8(I a, I b) { return of_u8(vzip2q_u8(u8(a), u8(b))); }
inline I interleave_low16(I a, I b) {
  return vreinterpretq_s32_s16(vzip1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
inline I interleave_high16(I a, I b) {
  return vreinterpretq_s32_s16(vzip2q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}

inline I pack_lanes(I a, I b, I c, I d) {
  const int16x8_t low = vqmovn_high_s32(vqmovn_s32(a), b), high = vqmovn_high_s32(vqmovn_s32(c), d);
  return of_u8(vqmovun_high_s16(vqmovun_s16(low), high));
}
inline I pack(I a, I b, I c, I d) { return pack_lanes(a, b, c, d); }  // a vector is one such lane
inline I low_bytes(float lo) {
  const I low = round_half_even(all_f32(lo));
  return pack_lanes(low, low, low, low);
}
inline void transpose_lanes(F (&)[4]) {}  // one lane of 128 bits is in order

using Finite = uint32x4_t;
inline Finite finite_lanes(F v, int64_t n) {
  constexpr uint32_t kLane[kLanes] = {0, 1, 2, 3};
  const uint32x4_t first = vcltq_u32(vld1q_u32(kLane), vdupq_n_u32(static_cast<uint32_t>(n > 0 ? n : 0)));
  return vandq_u32(vcltq_f32(vabsq_f32(v), vdupq_n_f32(__builtin_inff())), first);
}
inline F choose(Finite lanes, F yes, F no) { return vbslq_f32(lanes, yes, no); }
inline int count(Finite lanes) { return static_cast<int>(vaddvq_u32(vshrq_n_u32(lanes, 31))); }

}  // namespace
}  // namespace taille
