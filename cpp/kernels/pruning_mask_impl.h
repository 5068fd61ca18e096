// The kernels of pruning_mask.h, 16 elements at a time. Include after one bits16_*.h.
#pragma once

#include <cstdint>

#include "kernels/pruning_mask.h"

namespace {

// Calls body(w, norm, first, n) for runs of elements whose norms are consecutive too: rows, or all where there is none.
template <class Body>
inline void for_runs(const taille::ScoredMatrix& x, int64_t begin, int64_t end, const Body& body) {
  if (!x.norm) {
    if (begin < end) body(x.w + begin, x.norm, begin, end - begin);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t column = i % x.columns;
    const int64_t n = x.columns - column < end - i ? x.columns - column : end - i;
    body(x.w + i, x.norm + column, i, n);
    i += n;
  }
}

// The keys of the first n elements, 0 < n; beyond 16 of them there are 16, and lanes without an element have key 0.
template <bool kNorm>
inline I16 keys(const float* w, const float* norm, int64_t n) {
  const V16 zero = splat(0.0f);
  const V16 score = n >= kLanes ? load(w) : load_n(w, n, zero);
  if constexpr (kNorm) return bits(absolute(score * (n >= kLanes ? load(norm) : load_n(norm, n, zero))));
  return bits(absolute(score));
}

inline uint32_t first_bits(int64_t n) { return n >= kLanes ? 0xFFFFu : (1u << n) - 1; }

// ---- score_bins ----

constexpr int kTables = 2;  // consecutive elements often have one bin: in turns they do not wait for each other
constexpr int64_t kMostCounted = int64_t{1} << 30;  // so that 32 bits hold every count

struct BinTables {
  uint32_t counts[kTables][1 << taille::kMostBinBits];
};

template <bool kNorm>
inline void count_all(const float* w, const float* norm, int64_t n, int shift, BinTables& tables) {
  int32_t bins[kLanes];
  for (int64_t i = 0; i < n; i += kLanes) {
    store_bits(bins, shift_right(keys<kNorm>(w + i, norm + i * kNorm, n - i), shift));
    if (n - i >= kLanes) {
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane) ++tables.counts[lane % kTables][bins[lane]];
    } else {
      for (int lane = 0; lane < n - i; ++lane) ++tables.counts[0][bins[lane]];
    }
  }
}

// Only those in the interval, of which there are few.
template <bool kNorm>
inline int64_t count_some(const float* w, const float* norm, int64_t n, const taille::ScoreBinsArgs& g,
                          BinTables& tables) {
  const I16 low = splat_bits(g.low), zero = splat_bits(0);
  const I16 last = splat_bits(static_cast<int32_t>((uint32_t{1} << (g.shift + g.bits)) - 1));
  int32_t bins[kLanes];
  int64_t above = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const I16 offset = keys<kNorm>(w + i, norm + i * kNorm, n - i) - low;
    const uint32_t beyond = greater(offset, last) & first_bits(n - i);
    above += __builtin_popcount(beyond);
    uint32_t lanes = ~(beyond | greater(zero, offset)) & first_bits(n - i);
    if (lanes == 0) continue;
    store_bits(bins, shift_right(offset, g.shift));
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      ++tables.counts[lane % kTables][bins[lane]];
    }
  }
  return above;
}

template <bool kNorm>
inline int64_t count(const float* w, const float* norm, int64_t n, const taille::ScoreBinsArgs& g, BinTables& tables) {
  if (g.shift + g.bits < taille::kKeyBits) return count_some<kNorm>(w, norm, n, g, tables);
  count_all<kNorm>(w, norm, n, g.shift, tables);
  return 0;
}

inline void score_bins_run(const taille::ScoreBinsArgs& g) {
  for (int64_t begin = g.begin; begin < g.end; begin += kMostCounted) {
    BinTables tables = {};
    const int64_t end = g.end - begin < kMostCounted ? g.end : begin + kMostCounted;
    for_runs(g.x, begin, end, [&](const float* w, const float* norm, int64_t, int64_t n) {
      *g.above += norm ? count<true>(w, norm, n, g, tables) : count<false>(w, norm, n, g, tables);
    });
    for (int table = 0; table < kTables; ++table)
      for (int bin = 0; bin < 1 << g.bits; ++bin) g.counts[bin] += tables.counts[table][bin];
  }
}

// ---- apply_mask ----

// The first `ties` of these lanes, which are taken off them.
inline uint32_t first_of(uint32_t lanes, int64_t& ties) {
  const int64_t count = __builtin_popcount(lanes);
  if (count <= ties) {
    ties -= count;
    return lanes;
  }
  uint32_t kept = 0;
  for (; ties > 0; --ties, lanes &= lanes - 1) kept |= lanes & (~lanes + 1);
  return kept;
}

template <bool kNorm>
inline int64_t apply(const float* w, const float* norm, int64_t n, int32_t threshold, int64_t ties, uint8_t* mask) {
  const I16 least = splat_bits(threshold);
  for (int64_t i = 0; i < n; i += kLanes) {
    const I16 key = keys<kNorm>(w + i, norm + i * kNorm, n - i);
    uint32_t kept = greater(key, least);
    const uint32_t same = equal(key, least) & first_bits(n - i);
    if (same != 0) kept |= first_of(same, ties);
    if (n - i >= kLanes)
      store_mask(mask + i, kept);
    else
      store_mask_n(mask + i, kept, n - i);
  }
  return ties;
}

inline void apply_mask_run(const taille::ApplyMaskArgs& g) {
  for_runs(g.x, g.begin, g.end, [&](const float* w, const float* norm, int64_t first, int64_t n) {
    *g.ties = norm ? apply<true>(w, norm, n, g.threshold, *g.ties, g.mask + first)
                   : apply<false>(w, norm, n, g.threshold, *g.ties, g.mask + first);
  });
}

// ---- block_scores ----

template <bool kNorm>
inline V16 column_energies(const taille::BlockScoresArgs& g, int64_t row, int64_t column, int64_t n) {
  const V16 zero = splat(0.0f);
  V16 norm = zero, sum = zero;
  if constexpr (kNorm) norm = n >= kLanes ? load(g.x.norm + column) : load_n(g.x.norm + column, n, zero);
  const float* w = g.x.w + row * g.x.columns + column;
  for (int64_t r = 0; r < g.block_rows; ++r, w += g.x.columns) {
    V16 score = absolute(n >= kLanes ? load(w) : load_n(w, n, zero));
    if constexpr (kNorm) score = absolute(score * norm);
    sum = g.energy ? sum + score : fma(score, score, sum);
  }
  return sum;
}

// The last rounds of the sum over 16 lanes of which only the first kColumns are not 0.
template <int kColumns>
inline float tree(const float* lanes) {
  float sums[kColumns];
  for (int i = 0; i < kColumns; ++i) sums[i] = lanes[i];
  for (int half = kColumns / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

// Several blocks from one vector.
template <bool kNorm, int kColumns>
inline void narrow_blocks(const taille::BlockScoresArgs& g, int64_t row, float* out) {
  float lanes[kLanes];
  for (int64_t column = 0; column < g.x.columns; column += kLanes) {
    const int64_t n = g.x.columns - column;
    store(lanes, column_energies<kNorm>(g, row, column, n));
    for (int i = 0; i < kLanes && i < n; i += kColumns) *out++ = tree<kColumns>(lanes + i);
  }
}

template <bool kNorm>
inline void wide_blocks(const taille::BlockScoresArgs& g, int64_t row, float* out) {
  for (int64_t first = 0; first < g.x.columns; first += g.block_columns) {
    V16 sum = splat(0.0f);
    for (int64_t c = 0; c < g.block_columns; c += kLanes)
      sum = sum + column_energies<kNorm>(g, row, first + c, g.block_columns - c);
    *out++ = reduce_add(sum);
  }
}

template <bool kNorm>
inline void blocks_of_row(const taille::BlockScoresArgs& g, int64_t row, float* out) {
  switch (g.block_columns) {
    case 1:
      return narrow_blocks<kNorm, 1>(g, row, out);
    case 2:
      return narrow_blocks<kNorm, 2>(g, row, out);
    case 4:
      return narrow_blocks<kNorm, 4>(g, row, out);
    case 8:
      return narrow_blocks<kNorm, 8>(g, row, out);
    default:
      return wide_blocks<kNorm>(g, row, out);
  }
}

inline void block_scores_run(const taille::BlockScoresArgs& g) {
  const int64_t blocks = g.x.columns / g.block_columns;
  for (int64_t row = g.row_begin; row < g.row_end; row += g.block_rows) {
    float* out = g.out + row / g.block_rows * blocks;
    g.x.norm ? blocks_of_row<true>(g, row, out) : blocks_of_row<false>(g, row, out);
  }
}

// ---- nm_mask ----

// Whole groups of kGroup columns: each lane meets the other lanes of its group in turn and counts those ahead of it.
template <bool kNorm, int kGroup>
inline void nm_small(const float* w, const float* norm, int64_t count, int64_t n, uint8_t* mask) {
  I16 partner[kGroup],
      earlier[kGroup];  // of the lanes after `turn` steps round the group; 1 where it is the earlier one
  for (int turn = 1; turn < kGroup; ++turn) {
    int32_t lanes[kLanes], before[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      lanes[i] = i / kGroup * kGroup + (i + turn) % kGroup;
      before[i] = lanes[i] < i;
    }
    partner[turn] = load_bits(lanes);
    earlier[turn] = load_bits(before);
  }
  const I16 kept = splat_bits(static_cast<int32_t>(n));
  for (int64_t i = 0; i < count; i += kLanes) {
    const I16 key = keys<kNorm>(w + i, norm + i * kNorm, count - i);
    I16 ahead = splat_bits(0);
#pragma GCC unroll 8
    for (int turn = 1; turn < kGroup; ++turn)
      ahead = add_if_greater(ahead, permute(key, partner[turn]), key - earlier[turn]);
    if (count - i >= kLanes)
      store_mask(mask + i, greater(kept, ahead));
    else
      store_mask_n(mask + i, greater(kept, ahead), count - i);
  }
}

// A group of up to kMostRanked columns: each meets all.
constexpr int64_t kMostRanked = 32;

template <bool kNorm>
inline void nm_ranked(const float* w, const float* norm, int64_t m, int64_t n, uint8_t* mask) {
  int32_t group[kMostRanked];
  for (int64_t i = 0; i < m; i += kLanes) store_bits(group + i, keys<kNorm>(w + i, norm + i * kNorm, m - i));
  const I16 one = splat_bits(1), kept = splat_bits(static_cast<int32_t>(n));
  int32_t columns[kLanes];
  for (int i = 0; i < kLanes; ++i) columns[i] = i;
  const I16 lane = load_bits(columns);
  for (int64_t i = 0; i < m; i += kLanes) {
    const I16 key = load_bits(group + i), as_large = key - one;
    I16 ahead = splat_bits(0);
    for (int64_t j = 0; j < i; ++j) ahead = add_if_greater(ahead, splat_bits(group[j]), as_large);
    for (int64_t j = i; j < m && j < i + kLanes; ++j) {
      const I16 later = add_if_greater(splat_bits(0), lane, splat_bits(static_cast<int32_t>(j - i)));
      ahead = add_if_greater(ahead, splat_bits(group[j]), key - later);
    }
    for (int64_t j = i + kLanes; j < m; ++j) ahead = add_if_greater(ahead, splat_bits(group[j]), key);
    store_mask_n(mask + i, greater(kept, ahead), m - i < kLanes ? m - i : kLanes);
  }
}

template <bool kNorm>
inline int64_t count_above(const float* w, const float* norm, int64_t m, int32_t key) {
  const I16 least = splat_bits(key);
  int64_t count = 0;
  for (int64_t i = 0; i < m; i += kLanes)  // a lane without an element has key 0, which no key of 0 or more is below
    count += __builtin_popcount(greater(keys<kNorm>(w + i, norm + i * kNorm, m - i), least));
  return count;
}

// A larger group: the n-th largest key, bit by bit from the top.
template <bool kNorm>
inline void nm_group(const float* w, const float* norm, int64_t m, int64_t n, uint8_t* mask) {
  int32_t key = 0;
  for (int32_t bit = 1 << (taille::kKeyBits - 1); bit != 0; bit >>= 1)
    if (count_above<kNorm>(w, norm, m, (key | bit) - 1) >= n) key |= bit;
  apply<kNorm>(w, norm, m, key, n - count_above<kNorm>(w, norm, m, key), mask);
}

template <bool kNorm>
inline void nm_columns(const float* w, const float* norm, int64_t count, const taille::NmMaskArgs& g, uint8_t* mask) {
  switch (g.m) {
    case 2:
      return nm_small<kNorm, 2>(w, norm, count, g.n, mask);
    case 4:
      return nm_small<kNorm, 4>(w, norm, count, g.n, mask);
    case 8:
      return nm_small<kNorm, 8>(w, norm, count, g.n, mask);
    default:
      for (int64_t i = 0; i < count; i += g.m) {
        const auto one_group = g.m <= kMostRanked ? nm_ranked<kNorm> : nm_group<kNorm>;
        one_group(w + i, norm + i * kNorm, g.m, g.n, mask + i);
      }
  }
}

inline void nm_mask_run(const taille::NmMaskArgs& g) {
  const int64_t begin = g.row_begin * g.x.columns, end = g.row_end * g.x.columns;
  for_runs(g.x, begin, end, [&](const float* w, const float* norm, int64_t first, int64_t count) {
    norm ? nm_columns<true>(w, norm, count, g, g.mask + first) : nm_columns<false>(w, norm, count, g, g.mask + first);
  });
}

}  // namespace
