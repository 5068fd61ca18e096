// dot: acc[lane] += sum of 4 products u8 * s8, exactly, in one instruction.
#pragma once

#include "kernels/avx512_s8.h"

namespace taille {
namespace {

constexpr int kSumsInFlight = 10;  // 2 per cycle, each ready after 5 to 6

struct Activations {
  I u8;
};
struct Weights {
  I s8;
};

inline Activations activations(I u8) { return {u8}; }
// Stored by parts, `distance` bytes apart.
[[maybe_unused]] inline Activations load_activations(const uint8_t* p, int64_t) { return {_mm512_loadu_si512(p)}; }
// Loaded once: GCC would rather load them again for every row.
inline Weights weights(I s8) {
  asm("" : "+v"(s8));
  return {s8};
}
inline I dot(I acc, const Activations& a, const Weights& w) { return _mm512_dpbusd_epi32(acc, a.u8, w.s8); }

}  // namespace
}  // namespace taille
