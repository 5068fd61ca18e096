// Tiles of a float matrix product over V16: rows x vectors of outputs stay in registers while K advances. Include
// after one vec16_*.h, which says how large the tiles of its level are.
//
// GCC keeps acc[][] in registers only where every loop over it is fully unrolled.
#pragma once

#include <cstdint>
#include <iterator>
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

// What is asked for meanwhile, for L2: every `steps` steps the line that is `bytes` further.
template <int64_t kSteps>
struct Fetch {
  static constexpr int64_t kEvery = kSteps;
  const char* next;
  int64_t bytes;
};

// Step P of those that `rows` holds.
template <int P, int MR, int NV, class Row, class B>
[[gnu::always_inline]] inline void multiply_add_lane(V16 (&acc)[MR][NV], const Row (&rows)[MR], const B* b) {
#pragma GCC unroll 32
  for (int v = 0; v < NV; ++v) {
    const V16 column = load(b + 16 * v);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r) acc[r][v] = fma_lane<P>(rows[r], column, acc[r][v]);
  }
}

// The next kRowSteps steps, where rows are loaded so many floats at a time.
template <int MR, int NV, class B>
[[gnu::always_inline]] inline void multiply_add_steps(V16 (&acc)[MR][NV], const float* const (&a)[MR], int64_t p,
                                                      const B* b, int64_t ldb) {
  decltype(load_row(a[0])) rows[MR];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) rows[r] = load_row(a[r] + p);
  multiply_add_lane<0>(acc, rows, b);
  multiply_add_lane<1>(acc, rows, b + ldb);
  multiply_add_lane<2>(acc, rows, b + 2 * ldb);
  multiply_add_lane<3>(acc, rows, b + 3 * ldb);
}

// acc[r][v] += a[r][p] * b[p*ldb + 16 v ..] for p = 0 .. k-1, in that order; B is float, F16 or BF16.
template <int MR, int NV, class B, class Fetched = Fetch<0>>
[[gnu::always_inline]] inline void multiply_add(V16 (&acc)[MR][NV], const float* const (&a)[MR], const B* b,
                                                int64_t ldb, int64_t k, [[maybe_unused]] Fetched fetch = {}) {
  int64_t p = 0;
  if constexpr (kRowSteps > 1) {
    for (; p + kRowSteps <= k; p += kRowSteps, b += kRowSteps * ldb) {
      if constexpr (Fetched::kEvery > 0) {
#pragma GCC unroll 4
        for (int64_t s = 0; s < kRowSteps; s += Fetched::kEvery)
          __builtin_prefetch(fetch.next + (p + s) / Fetched::kEvery * fetch.bytes, 0, 2);
      }
      multiply_add_steps(acc, a, p, b, ldb);
    }
  }
  for (; p < k; ++p, b += ldb) {
    if constexpr (Fetched::kEvery > 0) __builtin_prefetch(fetch.next + p / Fetched::kEvery * fetch.bytes, 0, 2);
    if constexpr (MR == 1) {  // nothing is read twice
      const V16 x = splat(a[0][p]);
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) acc[0][v] = fma(x, load(b + 16 * v), acc[0][v]);
      continue;
    }
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

template <int W, class Body>
inline void strips_of(Body body, int64_t vectors, int64_t begin, int64_t end) {
  for (body.strip = 0; body.strip + W <= vectors; body.strip += W) tiles<W>(body, begin, end);
  const int64_t rest = vectors - body.strip;
  if constexpr (W > 1) {
    if (rest == 1) tiles<1>(body, begin, end);
  }
  if constexpr (W > 2) {
    if (rest == 2) tiles<2>(body, begin, end);
    if (rest == 3) tiles<3>(body, begin, end);
  }
}

// All rows of a panel `vectors` wide, in strips: body.strip = first vector of the strip. Strips are as wide as the
// level's tiles; wider where the rows are so few that one tile has them all, since a narrow tile of few rows waits for
// its sums, and reads memory in pieces that the hardware does not foresee.
template <class Body>
inline void strips(const Body& body, int64_t vectors, int64_t begin, int64_t end) {
  if constexpr (kTileVectors < 4 && std::size(kTileRows) > 4) {
    if (end - begin <= kTileRows[4]) return strips_of<4>(body, vectors, begin, end);
    if (end - begin <= kTileRows[2]) return strips_of<2>(body, vectors, begin, end);
  }
  strips_of<kTileVectors>(body, vectors, begin, end);
}

}  // namespace
