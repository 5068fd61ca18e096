#include "runtime/sparse_weight.h"

#include <algorithm>

namespace taille {

namespace {

// Measured on AVX2: 15.6, 10.5 and 8 MAC/cycle beside 21 of the dense kernel, and 17 of skip lists.
constexpr BlockForm kInt8Forms[] = {{kSparseS8ListRows, 0.9}, {4, 1.0}, {2, 1.5}, {1, 2.0}};

}  // namespace

std::optional<SparseWeight> SparseWeight::of(const int8_t* w, int64_t n, int64_t taps, int64_t k, const int8_t* packed,
                                             const KernelRow<GemmS8Args>& dense, Isa isa) {
  const int64_t k_total = taps * k;
  if (k % 4 != 0 || k_total == 0 || n == 0 || k_total > kSparseS8MaxDepth) return std::nullopt;
  const BlockChoice blocks =
      choose_blocks(kInt8Forms, n, k_total, [&](int64_t rows) { return gemm_sparse_s8_count(w, n, k_total, rows); });
  if (blocks.rows == 0) return std::nullopt;
  SparseWeight s;
  s.kernel_ = &select_kernel(gemm_sparse_s8_table(), isa);
  s.n_ = n;
  s.taps_ = taps;
  s.k_total_ = k_total;
  s.block_rows_ = blocks.rows;
  s.begin_.resize(static_cast<size_t>(n / s.block_rows_ + 1));
  s.inputs_.resize(static_cast<size_t>(blocks.count));
  s.values_ = Buffer(static_cast<size_t>(blocks.count * s.block_rows_ * 4));
  gemm_sparse_s8_pack(w, n, k_total, s.block_rows_, s.begin_.data(), s.inputs_.data(), s.values_.data<int8_t>());
  s.time_beside(packed, dense);
  if (!s.gain_.any()) return std::nullopt;
  return s;
}

void SparseWeight::time_beside(const int8_t* packed, const KernelRow<GemmS8Args>& dense) {
  const int64_t many = trial_rows(n_, k_total_);
  const std::vector<int32_t> offsets = trial_offsets(many, taps_, k_total_ / taps_);
  const auto columns = static_cast<size_t>(n_);
  const std::vector<int32_t> offset(columns, 0);
  const std::vector<float> scale(columns, 1e-4f), bias(columns, 0.0f);
  Buffer a(static_cast<size_t>((many + taps_) * k_total_)), out(static_cast<size_t>(many * n_));
  Buffer scratch(static_cast<size_t>(std::max(gemm_s8_scratch_bytes(k_total_), scratch_bytes())));
  GemmS8Args args{};
  args.a = a.data<uint8_t>();
  args.lda = k_total_;
  args.k = k_total_ / taps_;
  args.taps = taps_;
  args.offsets = taps_ > 1 ? offsets.data() : nullptr;
  args.packed = packed;
  args.n = args.n_end = n_;
  args.offset = offset.data();
  args.scale = scale.data();
  args.bias = bias.data();
  args.hi = 255;
  args.bounded = true;
  args.pairs_fit = gemm_s8_pairs_fit(packed, n_, k_total_);
  args.out = out.data();
  args.ldc = n_;
  args.scratch = scratch.data<uint8_t>();
  gain_ = gain_of(args, kSparseS8FewRows, many, dense.run, [&](const GemmS8Args& product) { run(product); });
}

std::string SparseWeight::describe() const {
  const double kept = static_cast<double>(values_.size()) / static_cast<double>(n_ * k_total_);
  return gain_.describe(kernel_->name, block_rows_, kept);
}

}  // namespace taille
