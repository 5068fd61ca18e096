// An int8 weight by the blocks of it that are not zero, and whether that is the faster form here: both kernels are
// timed when the operator is made, for one row and for many.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "kernels/gemm_sparse_s8.h"
#include "runtime/operator.h"
#include "runtime/partition.h"

namespace taille {

class SparseWeight {
 public:
  // w[n][taps * k]. None where its zeros are not in blocks, are too few, or the dense kernel is faster on them.
  static std::optional<SparseWeight> of(const int8_t* w, int64_t n, int64_t taps, int64_t k, const int8_t* packed,
                                        const KernelRow<GemmS8Args>& dense, Isa isa);

  // Whether this form is the faster for products of so many rows.
  bool serves(int64_t rows) const { return rows <= kSparseS8FewRows ? few_ > kGain : many_ > kGain; }
  // Of any number: the dense form is not needed, and columns may be shared out by blocks.
  bool serves_all() const { return few_ > kGain && many_ > kGain; }
  // Where the product is shared out by columns, gives every part as many blocks. Products that this form serves.
  void share_blocks(GemmPartition& partition) const;
  int64_t scratch_bytes() const { return gemm_sparse_s8_scratch_bytes(n_, k_total_); }
  void run(const GemmS8Args& product) const { kernel_->run({product, view()}); }
  // "avx2, blocks of 4x4, 25 % kept: 3.1 times as fast as dense"
  std::string describe() const;

 private:
  static constexpr double kGain = 1.05;  // how much faster it must be
  const KernelRow<GemmSparseS8Args>* kernel_ = nullptr;
  int64_t n_ = 0, k_total_ = 0, block_rows_ = 0;
  std::vector<uint32_t> begin_;
  std::vector<uint16_t> inputs_;
  Buffer values_;
  double few_ = 0, many_ = 0;  // dense time over sparse time

  SparseS8 view() const { return {block_rows_, begin_.data(), inputs_.data(), values_.data<int8_t>()}; }
  void time_beside(const int8_t* packed, const KernelRow<GemmS8Args>& dense);
};

}  // namespace taille
