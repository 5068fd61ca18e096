#include <bit>
#include <cmath>

#include "kernels/pruning_mask.h"

namespace taille {
namespace {

float score_of(const ScoredMatrix& x, int64_t i) {
  const float magnitude = std::fabs(x.w[i]);
  return x.norm ? std::fabs(magnitude * x.norm[i % x.columns]) : magnitude;
}

int32_t key_of(const ScoredMatrix& x, int64_t i) { return std::bit_cast<int32_t>(score_of(x, i)); }

float column_energy(const BlockScoresArgs& g, int64_t first_row, int64_t column) {
  float sum = 0;
  for (int64_t row = first_row; row < first_row + g.block_rows; ++row) {
    const float score = score_of(g.x, row * g.x.columns + column);
    sum = g.energy ? sum + score : std::fma(score, score, sum);
  }
  return sum;
}

float block_energy(const BlockScoresArgs& g, int64_t first_row, int64_t first_column) {
  float lanes[16] = {};
  for (int64_t c = 0; c < g.block_columns; ++c) lanes[c % 16] += column_energy(g, first_row, first_column + c);
  for (int half = 8; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

}  // namespace

void score_bins_reference(const ScoreBinsArgs& g) {
  for (int64_t i = g.begin; i < g.end; ++i) {
    const int64_t bin = (int64_t{key_of(g.x, i)} - g.low) >> g.shift;
    if (bin >= int64_t{1} << g.bits)
      ++*g.above;
    else if (bin >= 0)
      ++g.counts[bin];
  }
}

void apply_mask_reference(const ApplyMaskArgs& g) {
  for (int64_t i = g.begin; i < g.end; ++i) {
    const int32_t key = key_of(g.x, i);
    const bool tie = key == g.threshold && *g.ties > 0;
    *g.ties -= tie;
    g.mask[i] = key > g.threshold || tie;
  }
}

void block_scores_reference(const BlockScoresArgs& g) {
  const int64_t blocks = g.x.columns / g.block_columns;
  for (int64_t row = g.row_begin; row < g.row_end; row += g.block_rows)
    for (int64_t b = 0; b < blocks; ++b)
      g.out[row / g.block_rows * blocks + b] = block_energy(g, row, b * g.block_columns);
}

void nm_mask_reference(const NmMaskArgs& g) {
  for (int64_t i = g.row_begin * g.x.columns; i < g.row_end * g.x.columns; ++i) {
    const int64_t group = i - i % g.x.columns % g.m;
    int64_t rank = 0;
    for (int64_t j = group; j < group + g.m; ++j) rank += key_of(g.x, j) >= key_of(g.x, i) + (j >= i);
    g.mask[i] = rank < g.n;
  }
}

}  // namespace taille
