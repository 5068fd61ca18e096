// What int8 and float32 weights in blocks share: which blocks they are, and the trial beside the dense kernel.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "runtime/partition.h"

namespace taille {

// Blocks of `rows` outputs by 4 inputs, and what a weight of them costs, relative to the others.
struct BlockForm {
  int64_t rows;
  double cost;
};

struct BlockChoice {
  int64_t rows = 0, count = 0;  // of outputs; of blocks that are not zero
};

// The form of w[n][k_total] that should be the fastest, by count(rows); rows = 0 where none is worth a trial.
BlockChoice choose_blocks(std::span<const BlockForm> forms, int64_t n, int64_t k_total,
                          FunctionRef<int64_t(int64_t rows)> count);

// Where each tap of each row of a trial begins, as a convolution's taps do: neighbours overlap, and k is short.
std::vector<int32_t> trial_offsets(int64_t rows, int64_t taps, int64_t k);

// Rows of a trial of many.
int64_t trial_rows(int64_t n, int64_t k_total);

// Where a product is shared out by columns, gives every part as many blocks; begin[n / block_rows + 1] as in SparseS8.
void share_blocks(std::span<const uint32_t> begin, int64_t n, int64_t block_rows, GemmPartition& partition);

// Dense time over sparse time.
double times_as_fast(FunctionRef<void()> dense, FunctionRef<void()> sparse);

// By how much a layer gains.
struct SparseGain {
  static constexpr double kLeast = 1.05;
  int64_t few_rows = 0;               // up to which a product is one of few rows
  double one = 0, few = 0, many = 0;  // of one row, of few_rows, of many

  // tile: rows whose time fewer of them take too, unless they are few.
  bool serves(int64_t rows, int64_t tile = 1) const;
  bool all() const { return one > kLeast && few > kLeast && many > kLeast; }
  bool any() const { return one > kLeast || few > kLeast || many > kLeast; }
  // "avx2, blocks of 4x4, 25 % kept: 3.1 times as fast as dense (one row: 2.8)"
  std::string describe(const char* kernel, int64_t block_rows, double kept) const;
};

// Times both kernels on `args`.
template <class Product, class Dense, class Sparse>
SparseGain gain_of(Product& args, int64_t few_rows, int64_t many_rows, const Dense& dense, const Sparse& sparse) {
  const auto ratio = [&](int64_t rows) {
    args.m_end = rows;
    return times_as_fast([&] { dense(args); }, [&] { sparse(args); });
  };
  return {few_rows, ratio(1), ratio(few_rows), ratio(many_rows)};
}

}  // namespace taille
