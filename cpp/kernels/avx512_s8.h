// The vector words the int8 kernels are written in, for AVX-512 (F, BW, DQ, VL); avx2_s8.h has the same words.
// Each kernel file includes one of them once. Everything is in an unnamed namespace: a function built with these
// flags must never be the copy that the linker keeps for another file.
//
// `n` counts what is left from the pointer on: the whole vector where n is at least its size, nothing where n <= 0.
// What lies beyond n is neither read (it is zero in the register) nor written.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace taille {
namespace {

using I = __m512i;
using F = __m512;
constexpr int kLanes = 16;  // 32-bit elements in a vector
constexpr int kBytes = 64;

inline __mmask16 lanes_mask(int64_t n) { return n <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << n) - 1u); }
inline __mmask64 bytes_mask(int64_t n) { return n <= 0 ? __mmask64{0} : (1ull << n) - 1ull; }

inline I load_bytes(const void* p, int64_t n) {
  return n >= kBytes ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(bytes_mask(n), p);
}
inline void store_bytes(void* p, I v, int64_t n) {
  if (n >= kBytes)
    _mm512_storeu_si512(p, v);
  else
    _mm512_mask_storeu_epi8(p, bytes_mask(n), v);
}
inline I load_s32(const int32_t* p, int64_t n) {
  return n >= kLanes ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(lanes_mask(n), p);
}
inline F load_f32(const float* p, int64_t n) {
  return n >= kLanes ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(lanes_mask(n), p);
}
inline void store_f32(float* p, F v, int64_t n) {
  if (n >= kLanes)
    _mm512_storeu_ps(p, v);
  else
    _mm512_mask_storeu_ps(p, lanes_mask(n), v);
}
// kBytes / kWidth pixels of kWidth channels, `step` bytes apart, of which the first n bytes each are read.
template <int kWidth>
inline I load_pixels(const uint8_t* p, int64_t step, int64_t n) {
  if constexpr (kWidth == kBytes) {
    return load_bytes(p, n);
  } else {
    if (step == kWidth && n == kWidth) return _mm512_loadu_si512(p);
    I v = _mm512_setzero_si512();
    _Pragma("GCC unroll 4") for (int i = 0; i < kBytes / kWidth; ++i) v =
        _mm512_mask_loadu_epi8(v, bytes_mask(n) << (i * kWidth), p + i * (step - kWidth));
    return v;
  }
}
// Writes the first n bytes of the first `pixels` pixels.
template <int kWidth>
inline void store_pixels(uint8_t* p, int64_t step, I v, int64_t n, int64_t pixels) {
  if constexpr (kWidth == kBytes) {
    store_bytes(p, v, n);
  } else if (step == kWidth && n == kWidth) {
    store_bytes(p, v, pixels * kWidth);
  } else {
    _Pragma("GCC unroll 4") for (int i = 0; i < kBytes / kWidth; ++i) if (i < pixels)
        _mm512_mask_storeu_epi8(p + i * (step - kWidth), bytes_mask(n) << (i * kWidth), v);
  }
}
// kLanes bytes, zero-extended to 32 bits
inline I load_u8_as_s32(const uint8_t* p, int64_t n) {
  if (n >= kLanes) return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes_mask(n), p));
}
// Copies n bytes; may write up to kBytes past them, reads none past them.
inline void copy_over(uint8_t* to, const uint8_t* from, int64_t n) {
  if (n <= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_maskz_loadu_epi8(lanes_mask(n), from));
  } else if (n <= 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_maskz_loadu_epi8(static_cast<__mmask32>(bytes_mask(n)), from));
  } else {
    for (int64_t done = 0; done < n; done += kBytes) store_bytes(to + done, load_bytes(from + done, n - done), kBytes);
  }
}
// The 4 bytes at p in every lane.
inline I broadcast4(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm512_set1_epi32(x);
}
// Makes the compiler leave x in a register.
inline void keep(I& x) { asm("" : "+v"(x)); }

inline I zero() { return _mm512_setzero_si512(); }
inline I all_s32(int32_t x) { return _mm512_set1_epi32(x); }
inline I all_bytes(uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
inline F all_f32(float x) { return _mm512_set1_ps(x); }
inline I add_s32(I a, I b) { return _mm512_add_epi32(a, b); }
inline I sub_s32(I a, I b) { return _mm512_sub_epi32(a, b); }
inline I min_u8(I a, I b) { return _mm512_min_epu8(a, b); }
inline I max_u8(I a, I b) { return _mm512_max_epu8(a, b); }
inline I and_bits(I a, I b) { return _mm512_and_si512(a, b); }
template <int kShift>
inline I shift_left_16(I a) {
  return _mm512_slli_epi16(a, kShift);
}
template <int kShift>
inline I shift_right_u16(I a) {
  return _mm512_srli_epi16(a, kShift);
}
template <int kShift>
inline I shift_right_s16(I a) {
  return _mm512_srai_epi16(a, kShift);
}
// two products of 16-bit halves, added in 32 bits
inline I multiply_add_s16(I a, I b) { return _mm512_madd_epi16(a, b); }
inline F to_f32(I a) { return _mm512_cvtepi32_ps(a); }
inline I round_half_even(F a) { return _mm512_cvtps_epi32(a); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F min(F a, F b) { return _mm512_min_ps(a, b); }
inline F max(F a, F b) { return _mm512_max_ps(a, b); }
inline F clamp(F v, F lo, F hi) { return _mm512_min_ps(_mm512_max_ps(v, lo), hi); }  // NaN gives lo
inline F cap(F v, F hi) { return _mm512_min_ps(hi, v); }                             // NaN stays NaN

// Within each 128-bit lane: bytes or words of a and b in turn.
inline I interleave_low8(I a, I b) { return _mm512_unpacklo_epi8(a, b); }
inline I interleave_high8(I a, I b) { return _mm512_unpackhi_epi8(a, b); }
inline I interleave_low16(I a, I b) { return _mm512_unpacklo_epi16(a, b); }
inline I interleave_high16(I a, I b) { return _mm512_unpackhi_epi16(a, b); }

// 4 vectors of values 0..255 to bytes, within each 128-bit lane: lane l has lane l of a, b, c and d.
inline I pack_lanes(I a, I b, I c, I d) {
  return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}
// Each 128-bit lane as 4 by 4 bytes, transposed: after pack_lanes, the bytes of a, b, c and d are a word together.
inline I transpose_bytes(I a) {
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(order));
}
// 4 vectors of values 0..255 to bytes, in memory order.
inline I pack(I a, I b, I c, I d) {
  const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, pack_lanes(a, b, c, d));
}
// Clamping to lo may follow rounding and packing, since rounding is monotonic: max_u8(pack(...), low_bytes(lo)).
// Packing itself clamps to 0; a NaN and what is below int32 round to the least int32. The other end needs cap first.
inline I low_bytes(float lo) {
  const I low = round_half_even(all_f32(lo));
  return pack_lanes(low, low, low, low);
}
// v[q] lane l to the place 4l + q: what pack_lanes does for bytes.
inline void transpose_lanes(F (&v)[4]) {
  const F a = _mm512_shuffle_f32x4(v[0], v[1], 0x44), b = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
  const F c = _mm512_shuffle_f32x4(v[0], v[1], 0xee), d = _mm512_shuffle_f32x4(v[2], v[3], 0xee);
  v[0] = _mm512_shuffle_f32x4(a, b, 0x88);
  v[1] = _mm512_shuffle_f32x4(a, b, 0xdd);
  v[2] = _mm512_shuffle_f32x4(c, d, 0x88);
  v[3] = _mm512_shuffle_f32x4(c, d, 0xdd);
}

// Which of the first n lanes hold finite numbers.
using Finite = __mmask16;
inline Finite finite_lanes(F v, int64_t n) {
  const F infinity = _mm512_castsi512_ps(_mm512_set1_epi32(0x7F800000));
  return _mm512_mask_cmp_ps_mask(n >= kLanes ? __mmask16{0xFFFF} : lanes_mask(n), _mm512_abs_ps(v), infinity,
                                 _CMP_LT_OQ);
}
inline F choose(Finite lanes, F yes, F no) { return _mm512_mask_mov_ps(no, lanes, yes); }
inline int count(Finite lanes) { return __builtin_popcount(lanes); }

}  // namespace
}  // namespace taille
