#include <algorithm>
#include <bit>
#include <cmath>

#include "base/half.h"
#include "kernels/half.h"

namespace taille {
namespace {

constexpr uint32_t kExponent = 0x7F800000;  // of a float32

float value_of(F16 half) {
  const int sign = half.bits >> 15, exponent = half.bits >> 10 & 31, mantissa = half.bits & 1023;
  if (exponent == 31) {
    const uint32_t quiet = mantissa ? 1u << 22 : 0;
    return std::bit_cast<float>(static_cast<uint32_t>(sign) << 31 | kExponent | quiet |
                                static_cast<uint32_t>(mantissa) << 13);
  }
  const float magnitude = exponent ? std::ldexp(1024.0f + static_cast<float>(mantissa), exponent - 25)
                                   : std::ldexp(static_cast<float>(mantissa), -24);
  return sign ? -magnitude : magnitude;
}

float value_of(BF16 half) { return std::bit_cast<float>(static_cast<uint32_t>(half.bits) << 16); }

// Rounds |x| to a multiple of its unit in the last place, then reads the bits off that integer.
F16 f16_of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (std::isnan(x)) return {static_cast<uint16_t>(sign | 0x7E00 | (bits >> 13 & 0x3FF))};
  const double magnitude = std::abs(static_cast<double>(x));
  if (magnitude >= 65520) return {static_cast<uint16_t>(sign | 0x7C00)};  // half way to 2^16
  if (magnitude == 0) return {sign};
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude = m * 2^exponent, m in [1/2, 1)
  const int unit = std::max(exponent - 11, -24);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -unit)));  // 11 bits; 2^11 carries over
  return {static_cast<uint16_t>(sign | (((unit + 24) << 10) + steps))};
}

BF16 bf16_of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  const uint32_t low = bits & 0xFFFF, up = bits >> 16;
  const bool round_up = low > 0x8000 || (low == 0x8000 && (up & 1));
  return {static_cast<uint16_t>(up + round_up)};  // a carry out of the mantissa raises the exponent, as it should
}

}  // namespace

void widen_reference(const WidenArgs& g) {
  for (int64_t i = 0; i < g.n; ++i)
    g.out[i] =
        g.type == DType::f16 ? value_of(static_cast<const F16*>(g.in)[i]) : value_of(static_cast<const BF16*>(g.in)[i]);
}

void narrow_reference(const NarrowArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) {
    if (g.type == DType::f16)
      static_cast<F16*>(g.out)[i] = f16_of(g.in[i]);
    else
      static_cast<BF16*>(g.out)[i] = bf16_of(g.in[i]);
  }
}

}  // namespace taille
