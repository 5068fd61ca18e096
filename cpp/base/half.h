// The 16-bit floats that weights are stored in: types alone, so that every kernel level can include them. The
// arithmetic is always float32; kernels/half.h converts.
#pragma once

#include <cstdint>

namespace taille {

struct F16 {  // IEEE binary16: 1 sign, 5 exponent, 10 mantissa bits; up to 65504
  uint16_t bits;
};
struct BF16 {  // the upper half of a float32: its range, 7 mantissa bits
  uint16_t bits;
};

}  // namespace taille
