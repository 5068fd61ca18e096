// dot: acc[lane] += sum of 4 products u8 * s8 by vpmaddubsw, which adds two of them in 16 bits: exact only for weights
// whose pairs fit (gemm_s8_pairs_fit). Needs avx2_s8.h.
#pragma once

namespace taille {
namespace {

constexpr int kSumsInFlight = 1;  // a sum waits for additions only

using Activations = I;
using Weights = I;

inline Activations activations(I u8) { return u8; }
inline Weights weights(I s8) { return s8; }
inline I dot(I acc, Activations a, Weights w) {
  return add_s32(acc, multiply_add_s16(multiply_add_pairs(a, w), all_s32(0x00010001)));
}

}  // namespace
}  // namespace taille
