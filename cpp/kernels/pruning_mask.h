// Which weights to keep: masks of 0 and 1 by scores, without sorting.
//
//   score        |w|, or |w| * norm[column]: the weight by what it multiplies (Wanda; Sun et al., arXiv:2306.11695)
//   key          the bits of a score as an integer of 31 bits, which orders scores as their values do
//   score_bins   a histogram of the keys in an interval, in bins of equal width, and how many lie above. Three, each of
//                one bin of the last, find the key of any rank in linear time (radix selection); two, if a sample says
//                where to begin.
//   apply_mask   1 where key > threshold, and for the first `ties` elements whose key is the threshold
//   block_scores the energy of blocks, which orders them as their L2 norm does: the sum of score^2, or of w itself if
//                w is an energy (|w|; loss increases by second order are energies)
//   nm_mask      of every m consecutive columns the n of largest key, the earlier of equal ones
//
// w and norm must be finite. A product may overflow, then its score is infinite and equal to others that are; one that
// is denormal is 0 where denormals are flushed. |w| alone is never computed with, so its denormals are in order anyway.
// Energies have one order of summation: a column's by rows, in one fused multiply-add each; then 16 virtual lanes, each
// with every 16th column of the block in order; then lane i with i+8, +4, +2, +1.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

constexpr int kKeyBits = 31;
constexpr int kMostBinBits = 11;  // two tables of counts fit in half of L1

// A row-major matrix and what its scores are made of.
struct ScoredMatrix {
  const float* w;     // [rows, columns]
  const float* norm;  // [columns]; null: ones
  int64_t columns;
};

struct ScoreBinsArgs {
  ScoredMatrix x;
  int64_t begin, end;  // elements in row-major order
  int32_t low;         // the least key of the first bin
  int shift, bits;     // 2^bits bins of 2^shift keys; 1 <= bits <= kMostBinBits, low + 2^(shift + bits) <= 2^31
  int64_t* counts;     // [2^bits], added to
  int64_t* above;      // the keys beyond the last bin, added to
};
KernelTable<ScoreBinsArgs> score_bins_table();

struct ApplyMaskArgs {
  ScoredMatrix x;
  int64_t begin, end;  // elements in row-major order
  int32_t threshold;
  int64_t* ties;  // what is left of them is written back
  uint8_t* mask;  // of all elements; only those of the range are written
};
KernelTable<ApplyMaskArgs> apply_mask_table();

struct BlockScoresArgs {
  ScoredMatrix x;
  int64_t row_begin, row_end;         // multiples of block_rows
  int64_t block_rows, block_columns;  // divide the matrix
  bool energy;                        // w is one; then there is no norm
  float* out;  // [rows / block_rows, columns / block_columns]; only those of the range are written
};
KernelTable<BlockScoresArgs> block_scores_table();

struct NmMaskArgs {
  ScoredMatrix x;
  int64_t row_begin, row_end;
  int64_t n, m;   // 1 <= n <= m, m divides the columns
  uint8_t* mask;  // of all elements; only those of the range are written
};
KernelTable<NmMaskArgs> nm_mask_table();

}  // namespace taille
