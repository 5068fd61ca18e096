// dot: acc[lane] += sum of 4 products u8 * s8, exactly, by products of signed bytes. Needs FEAT_DotProd.
//
// A byte is its low 7 bits and, where its top bit is set, twice 64: three products. Whoever can put 128 times the sum
// of the weights into the sums beforehand does with one (gemm_s8_neondot.cpp).
#pragma once

#include "kernels/neon_s8.h"

namespace taille {
namespace {

constexpr int kSumsInFlight = 8;  // 2 per cycle, each ready after 4

struct Activations {
  I low, top;
};
using Weights = I;

inline int8x16_t s8(I a) { return vreinterpretq_s8_s32(a); }

inline Activations activations(I bytes) {
  const uint8x16_t top = vshlq_n_u8(vshrq_n_u8(u8(bytes), 7), 6);
  return {of_u8(vandq_u8(u8(bytes), vdupq_n_u8(0x7F))), of_u8(top)};
}
// Stored by parts, `distance` bytes apart.
[[maybe_unused]] inline Activations load_activations(const uint8_t* p, int64_t distance) {
  return {load_whole(p), load_whole(p + distance)};
}
inline Weights weights(I bytes) { return bytes; }
inline I dot(I acc, const Activations& a, Weights w) {
  return vdotq_s32(vdotq_s32(vdotq_s32(acc, s8(a.low), s8(w)), s8(a.top), s8(w)), s8(a.top), s8(w));
}

}  // namespace
}  // namespace taille
