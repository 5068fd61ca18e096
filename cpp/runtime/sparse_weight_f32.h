// A float32 weight by the blocks of it that are not zero: what sparse_weight.h is for int8.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm_sparse_f32.h"
#include "runtime/operator.h"
#include "runtime/sparse_trial.h"

namespace taille {

class SparseWeightF32 {
 public:
  // w[n][taps * k]. None where it is not float32, its zeros are not in blocks, are too few, or the dense kernel is
  // faster on them.
  static std::optional<SparseWeightF32> of(const Tensor& w, int64_t n, int64_t taps, int64_t k, const void* packed,
                                           const KernelRow<GemmF32Args>& dense, Isa isa);

  // Whether this form is the faster for products of so many rows.
  bool serves(int64_t rows) const { return gain_.serves(rows, kSparseF32TileRows); }
  void share_blocks(GemmPartition& partition) const { taille::share_blocks(begin_, n_, block_rows_, partition); }
  // Products of an output, on the average of all: what it costs, and what of its weights is read.
  int64_t depth() const { return static_cast<int64_t>(values_.size()) / n_; }
  int64_t scratch_bytes() const { return gemm_sparse_f32_scratch_bytes(n_, k_total_); }
  void run(const GemmF32Args& product) const { kernel_->run({product, view()}); }
  std::string describe() const;

 private:
  const KernelRow<GemmSparseF32Args>* kernel_ = nullptr;
  int64_t n_ = 0, taps_ = 1, k_total_ = 0, block_rows_ = 0;
  std::vector<uint32_t> begin_;
  std::vector<uint16_t> inputs_;
  std::vector<float> values_;
  SparseGain gain_;

  SparseF32 view() const { return {block_rows_, begin_.data(), inputs_.data(), values_.data()}; }
  void time_beside(const void* packed, const KernelRow<GemmF32Args>& dense);
};

}  // namespace taille
