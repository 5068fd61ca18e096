#include "runtime/sparse_weight_f32.h"

#include <algorithm>
#include <limits>

#include "base/buffer.h"

namespace taille {

namespace {

// Measured on AVX2: 12.5, 10.5 and 6 MAC/cycle beside 12 of the dense kernel.
constexpr BlockForm kFloatForms[] = {{4, 1.0}, {2, 1.2}, {1, 2.1}};

}  // namespace

std::optional<SparseWeightF32> SparseWeightF32::of(const Tensor& w, int64_t n, int64_t taps, int64_t k,
                                                   const void* packed, const KernelRow<GemmF32Args>& dense, Isa isa) {
  const int64_t k_total = taps * k;
  if (w.dtype != DType::f32 || k % 4 != 0 || k_total == 0 || n == 0 || k_total > kSparseF32MaxDepth)
    return std::nullopt;
  const auto* weights = w.as<float>();
  const BlockChoice blocks = choose_blocks(
      kFloatForms, n, k_total, [&](int64_t rows) { return gemm_sparse_f32_count(weights, n, k_total, rows); });
  if (blocks.rows == 0) return std::nullopt;
  SparseWeightF32 s;
  s.kernel_ = &select_kernel(gemm_sparse_f32_table(), isa);
  s.n_ = n;
  s.taps_ = taps;
  s.k_total_ = k_total;
  s.block_rows_ = blocks.rows;
  s.begin_.resize(static_cast<size_t>(n / blocks.rows + 1));
  s.inputs_.resize(static_cast<size_t>(blocks.count));
  s.values_.resize(static_cast<size_t>(blocks.count * blocks.rows * 4));
  gemm_sparse_f32_pack(weights, n, k_total, blocks.rows, s.begin_.data(), s.inputs_.data(), s.values_.data());
  s.time_beside(packed, dense);
  if (!s.gain_.any()) return std::nullopt;
  return s;
}

void SparseWeightF32::time_beside(const void* packed, const KernelRow<GemmF32Args>& dense) {
  const int64_t many = trial_rows(n_, k_total_);
  const std::vector<int32_t> offsets = trial_offsets(many, taps_, k_total_ / taps_);
  Buffer a(static_cast<size_t>((many + taps_) * k_total_) * sizeof(float)),
      out(static_cast<size_t>(many * n_) * sizeof(float));
  Buffer scratch(static_cast<size_t>(std::max(gemm_f32_scratch_bytes(DType::f32, n_, k_total_), scratch_bytes())));
  GemmF32Args args{};
  args.a = a.data<float>();
  args.lda = k_total_;
  args.k = k_total_ / taps_;
  args.taps = taps_;
  args.offsets = taps_ > 1 ? offsets.data() : nullptr;
  args.packed = packed;
  args.packed_type = DType::f32;
  args.n = args.n_end = n_;
  args.lo = -std::numeric_limits<float>::infinity();
  args.hi = std::numeric_limits<float>::infinity();
  args.out = out.data<float>();
  args.ldc = n_;
  args.scratch = scratch.data<float>();
  gain_ = gain_of(args, kSparseF32FewRows, many, dense.run, [&](const GemmF32Args& product) { run(product); });
}

std::string SparseWeightF32::describe() const {
  const double kept = static_cast<double>(values_.size()) / static_cast<double>(n_ * k_total_);
  return gain_.describe(kernel_->name, block_rows_, kept);
}

}  // namespace taille
