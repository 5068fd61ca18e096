// Groups of 4 activations as they lie, but in the order of the weights' bytes. Needs avx512_s8_vnni.h.
#pragma once

#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr int kPlanes = 1;
using Pairs = int32_t[8];  // not used

inline __m256i in_order(__m256i quads) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  return _mm256_shuffle_epi8(quads, _mm256_broadcastsi128_si256(order));
}

inline void put_rows(uint8_t* to, int64_t, __m256i quads) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), in_order(quads));
}

template <int R, int NV>
[[gnu::always_inline]] inline void multiply_block(Sum (&acc)[R][NV], const uint8_t* x, const int8_t* values, Pairs&) {
  Activations rows[NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) rows[v] = activations(load_bytes(x + v * kBytes, kBytes));
  TAILLE_UNROLL for (int r = 0; r < R; ++r) {
    const Weights w = weights(broadcast4(values + 4 * r));
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = (Sum)dot((I)acc[r][v], rows[v], w);
  }
}

constexpr int64_t kRowGroupBytes = 4;  // of one row

inline void put_row(uint8_t* to, __m256i quads) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), in_order(quads));
}

template <int R>
inline __m128i load_block(const int8_t* values) {
  if constexpr (R == 4) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  if constexpr (R == 2) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values));
  int32_t four;
  __builtin_memcpy(&four, values, 4);
  return _mm_cvtsi32_si128(four);
}

// A lane for each output; four sums by turns, since each is ready after 5 to 6 cycles.
template <int R>
[[gnu::always_inline]] inline void multiply_row(const uint8_t* row, const uint16_t* inputs, const uint16_t* end,
                                                const int8_t* values, int32_t* sums) {
  __m128i acc[4] = {};
  const auto add_block = [&](__m128i sum, const uint16_t* at, const int8_t* block) {
    int32_t group;
    __builtin_memcpy(&group, row + *at * kRowGroupBytes, 4);
    return _mm_dpbusd_epi32(sum, _mm_set1_epi32(group), load_block<R>(block));
  };
  for (; inputs + 4 <= end; inputs += 4, values += 16 * R) {
    TAILLE_UNROLL for (int i = 0; i < 4; ++i) acc[i] = add_block(acc[i], inputs + i, values + 4 * R * i);
  }
  for (; inputs != end; ++inputs, values += 4 * R) acc[0] = add_block(acc[0], inputs, values);
  const __m128i sum = _mm_add_epi32(_mm_add_epi32(acc[0], acc[1]), _mm_add_epi32(acc[2], acc[3]));
  alignas(16) int32_t lanes[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes), sum);
  for (int r = 0; r < R; ++r) sums[r] = lanes[r];
}

}  // namespace
}  // namespace taille
