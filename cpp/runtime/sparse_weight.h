// An int8 weight by the blocks of it that are not zero, and whether that is the faster form here: both kernels are
// timed when the operator is made, for one row and for many.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "kernels/gemm_sparse_s8.h"
#include "runtime/operator.h"
#include "runtime/sparse_trial.h"

namespace taille {

class SparseWeight {
 public:
  // w[n][taps * k]. None where its zeros are not in blocks, are too few, or the dense kernel is faster on them.
  static std::optional<SparseWeight> of(const int8_t* w, int64_t n, int64_t taps, int64_t k, const int8_t* packed,
                                        const KernelRow<GemmS8Args>& dense, Isa isa);

  // Whether this form is the faster for products of so many rows.
  bool serves(int64_t rows) const { return gain_.serves(rows); }
  // Of any number: the dense form is not needed, and columns may be shared out by blocks.
  bool serves_all() const { return gain_.all(); }
  void share_blocks(GemmPartition& partition) const { taille::share_blocks(begin_, n_, block_rows_, partition); }
  // Products of an output, on the average of all: what it costs, and what of its weights is read.
  int64_t depth() const { return static_cast<int64_t>(values_.size()) / n_; }
  int64_t scratch_bytes() const { return gemm_sparse_s8_scratch_bytes(n_, k_total_); }
  void run(const GemmS8Args& product) const { kernel_->run({product, view()}); }
  std::string describe() const;

 private:
  const KernelRow<GemmSparseS8Args>* kernel_ = nullptr;
  int64_t n_ = 0, taps_ = 1, k_total_ = 0, block_rows_ = 0;
  std::vector<uint32_t> begin_;
  std::vector<uint16_t> inputs_;
  Buffer values_;
  SparseGain gain_;

  SparseS8 view() const { return {block_rows_, begin_.data(), inputs_.data(), values_.data<int8_t>()}; }
  void time_beside(const int8_t* packed, const KernelRow<GemmS8Args>& dense);
};

}  // namespace taille
