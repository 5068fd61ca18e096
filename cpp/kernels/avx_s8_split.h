// dot: acc[lane] += sum of 4 products u8 * s8, exactly, on CPUs without VNNI. Needs avx2_s8.h or avx512_s8.h.
//
// vpmaddubsw would add two products in int16 and saturate (2*255*127 = 64770). So each 16-bit half is split into its
// even and odd byte, widened, and vpmaddwd adds two exact products in int32.
#pragma once

namespace taille {
namespace {

constexpr int kSumsInFlight = 1;  // a sum waits for additions only

struct Halves {
  I even, odd;
};
using Activations = Halves;
using Weights = Halves;

inline Activations activations(I u8) { return {and_bits(u8, all_s32(0x00FF00FF)), shift_right_u16<8>(u8)}; }
// Stored by parts, `distance` bytes apart.
[[maybe_unused]] inline Activations load_activations(const uint8_t* p, int64_t distance) {
  return {load_bytes(p, kBytes), load_bytes(p + distance, kBytes)};
}
inline Weights weights(I s8) { return {shift_right_s16<8>(shift_left_16<8>(s8)), shift_right_s16<8>(s8)}; }
inline I dot(I acc, const Activations& a, const Weights& w) {
  return add_s32(acc, add_s32(multiply_add_s16(a.even, w.even), multiply_add_s16(a.odd, w.odd)));
}

}  // namespace
}  // namespace taille
