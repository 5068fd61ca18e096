// Tiles of a float matrix product over V16: rows x vectors of outputs stay in registers while K advances. Include
// after one vec16_*.h, which says how large the tiles of its level are.
//
// GCC keeps acc[][] in registers only where every loop over it is fully unrolled.
#pragma once

#include <cstdint>
#include <utility>

namespace {

constexpr int64_t kPanel = 64;  // columns of a packed panel; the last is 16, 32, 48 or 64 wide

template <int MR, int NV>
[[gnu::always_inline]] inline void clear(V16 (&acc)[MR][NV]) {
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < NV; ++v) acc[r][v] = splat(0.0f);
}

// acc[r][v] += a[r][p] * b[p*ldb + 16 v ..] for p = 0 .. k-1, in that order; B is float, F16 or BF16.
// With Fetch, each step asks for kFetchBytes more from `next` on, for L2.
constexpr int64_t kFetchBytes = 32;
template <bool Fetch = false, int MR, int NV, class B>
[[gnu::always_inline]] inline void multiply_add(V16 (&acc)[MR][NV], const float* const (&a)[MR], const B* b,
                                                int64_t ldb, int64_t k, [[maybe_unused]] const char* next = nullptr) {
  for (int64_t p = 0; p < k; ++p, b += ldb) {
    if constexpr (Fetch) __builtin_prefetch(next + kFetchBytes * p, 0, 2);
    V16 column[NV];
#pragma GCC unroll 32
    for (int v = 0; v < NV; ++v) column[v] = load(b + 16 * v);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) {
      const V16 x = splat(a[r][p]);
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
  }
}

// Body::tile<R, NV>(body, i) for tiles of R rows over i = begin .. end-1. The rows are split evenly over the fewest
// tiles, so that no tile is left with one or two rows.
template <int NV, class Body, int... R>
inline void tiles(const Body& body, int64_t begin, int64_t end, std::integer_sequence<int, R...>) {
  static constexpr void (*tile_of[])(const Body&, int64_t) = {nullptr, Body::template tile<R + 1, NV>...};
  int64_t left = (end - begin + kTileRows[NV] - 1) / kTileRows[NV];
  for (int64_t i = begin; i < end; --left) {
    const int64_t rows = (end - i + left - 1) / left;
    tile_of[rows](body, i);
    i += rows;
  }
}
template <int NV, class Body>
inline void tiles(const Body& body, int64_t begin, int64_t end) {
  tiles<NV>(body, begin, end, std::make_integer_sequence<int, kTileRows[NV]>());
}

// All rows of a panel `vectors` wide, in the widest strips the level has: body.strip = first vector of the strip.
template <class Body>
inline void strips(Body body, int64_t vectors, int64_t begin, int64_t end) {
  for (body.strip = 0; body.strip + kTileVectors <= vectors; body.strip += kTileVectors)
    tiles<kTileVectors>(body, begin, end);
  if constexpr (kTileVectors == 4) {
    const int64_t rest = vectors - body.strip;
    if (rest == 1) tiles<1>(body, begin, end);
    if (rest == 2) tiles<2>(body, begin, end);
    if (rest == 3) tiles<3>(body, begin, end);
  }
}

}  // namespace
