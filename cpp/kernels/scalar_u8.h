// The scalar steps that the references and the portable kernels share. Not for files with ISA flags.
#pragma once

#include <cmath>
#include <cstdint>

namespace taille {

// Like the vector instructions: NaN gives lo, and so does -0 where lo is 0.
inline float clamp(float v, float lo, float hi) {
  v = v > lo ? v : lo;
  return v < hi ? v : hi;
}

// Half to even (the default rounding mode), for 0 <= lo <= hi <= 255.
inline uint8_t round_u8(float v, float lo, float hi) { return static_cast<uint8_t>(std::lrint(clamp(v, lo, hi))); }

// Wraps where int32 addition would overflow, as the vector instructions do.
inline int32_t wrapping_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

}  // namespace taille
