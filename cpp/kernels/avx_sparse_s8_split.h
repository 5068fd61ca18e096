// Groups of 4 activations as two planes of 16-bit pairs, (0, 2) and (1, 3), for CPUs without VNNI. Needs avx2_s8.h or
// avx512_s8.h.
#pragma once

#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr int kPlanes = 2;
using Pairs = int32_t[8];  // of a block's weights

inline void put_rows(uint8_t* to, int64_t plane, __m256i quads) {
  const __m256i even = _mm256_and_si256(quads, _mm256_set1_epi32(0x00FF00FF)), odd = _mm256_srli_epi16(quads, 8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), even);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + plane), odd);
}

template <int R>
inline __m256i widened_block(const int8_t* values) {
  if constexpr (R == 4) return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
  if constexpr (R == 2) return _mm256_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values)));
  int32_t four;
  __builtin_memcpy(&four, values, 4);
  return _mm256_cvtepi8_epi16(_mm_cvtsi32_si128(four));
}

template <int R, int NV>
[[gnu::always_inline]] inline void multiply_block(Sum (&acc)[R][NV], const uint8_t* x, const int8_t* values,
                                                  Pairs& pairs) {
  // Through memory: a broadcast from there costs no vector port, and a shuffle would.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs), widened_block<R>(values));
  asm volatile("" : "+m"(pairs));  // else GCC takes them out of the register
  TAILLE_UNROLL for (int plane = 0; plane < 2; ++plane) {
    I rows[NV];
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) rows[v] = load_bytes(x + (plane * NV + v) * kBytes, kBytes);
    TAILLE_UNROLL for (int r = 0; r < R; ++r) {
      const I w = all_s32(pairs[2 * r + plane]);
      TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
        acc[r][v] = (Sum)add_s32((I)acc[r][v], multiply_add_s16(rows[v], w));
        asm("" : "+v"(acc[r][v]));  // else GCC adds the planes' products first, and has no registers for them
      }
    }
  }
}

constexpr int64_t kRowGroupBytes = 8;  // of one row: 4 values in 16 bits

inline void put_row(uint8_t* to, __m256i quads) {
  const __m256i order = _mm256_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 0, 2, 1, 3, 4, 6, 5, 7,
                                         8, 10, 9, 11, 12, 14, 13, 15);
  const __m256i bytes = _mm256_shuffle_epi8(quads, order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bytes, 1)));
}

// A lane of 32 bits for each pair of each output.
template <int R>
[[gnu::always_inline]] inline void multiply_row(const uint8_t* row, const uint16_t* inputs, const uint16_t* end,
                                                const int8_t* values, int32_t* sums) {
  __m256i acc = _mm256_setzero_si256(), other = acc;
  const auto product = [&](const uint16_t* at, const int8_t* block) {
    long long group;
    __builtin_memcpy(&group, row + *at * kRowGroupBytes, 8);
    return _mm256_madd_epi16(_mm256_set1_epi64x(group), widened_block<R>(block));
  };
  for (; inputs + 2 <= end; inputs += 2, values += 8 * R) {
    acc = _mm256_add_epi32(acc, product(inputs, values));
    other = _mm256_add_epi32(other, product(inputs + 1, values + 4 * R));
  }
  if (inputs != end) acc = _mm256_add_epi32(acc, product(inputs, values));
  acc = _mm256_add_epi32(acc, other);
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), acc);
  for (int r = 0; r < R; ++r) sums[r] = lanes[2 * r] + lanes[2 * r + 1];
}

}  // namespace
}  // namespace taille
