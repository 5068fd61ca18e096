#include "runtime/sparse_weight.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace taille {

namespace {

// Time per non-zero, relative to blocks of 4 outputs, and the share of the dense work from which on it is not worth a
// trial. Measured on AVX2: 15.6, 10.5 and 8 MAC/cycle beside 21 of the dense kernel, and 17 of skip lists.
struct Form {
  int64_t block_rows;
  double cost;
};
constexpr Form kForms[] = {{kSparseS8ListRows, 0.9}, {4, 1.0}, {2, 1.5}, {1, 2.0}};
constexpr double kWorthATrial = 0.9;
constexpr double kTrialProducts = 2e7;  // multiply-adds of a trial of many rows, or so
constexpr int64_t kColumnGrain = 16;    // a multiple of all block_rows; fewer threads write to one cache line
constexpr int64_t kEpilogueBlocks = 2;  // as many take as long as the epilogue of their outputs, or so

double seconds_of(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 4; ++i) {  // the first one warms up
    const auto start = Clock::now();
    run();
    if (i > 0) best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

std::optional<SparseWeight> SparseWeight::of(const int8_t* w, int64_t n, int64_t taps, int64_t k, const int8_t* packed,
                                             const KernelRow<GemmS8Args>& dense, Isa isa) {
  const int64_t k_total = taps * k;
  if (k % 4 != 0 || k_total == 0 || n == 0 || k_total > kSparseS8MaxDepth) return std::nullopt;
  SparseWeight s;
  double least = kWorthATrial * static_cast<double>(n * k_total);
  int64_t blocks = 0;
  for (const Form& form : kForms) {
    if (n % form.block_rows != 0) continue;
    const int64_t count = gemm_sparse_s8_count(w, n, k_total, form.block_rows);
    const double cost = static_cast<double>(count * form.block_rows * 4) * form.cost;
    if (cost >= least || count > std::numeric_limits<uint32_t>::max()) continue;
    least = cost;
    blocks = count;
    s.block_rows_ = form.block_rows;
  }
  if (s.block_rows_ == 0) return std::nullopt;
  s.kernel_ = &select_kernel(gemm_sparse_s8_table(), isa);
  s.n_ = n;
  s.k_total_ = k_total;
  s.begin_.resize(static_cast<size_t>(n / s.block_rows_ + 1));
  s.inputs_.resize(static_cast<size_t>(blocks));
  s.values_ = Buffer(static_cast<size_t>(blocks * s.block_rows_ * 4));
  gemm_sparse_s8_pack(w, n, k_total, s.block_rows_, s.begin_.data(), s.inputs_.data(), s.values_.data<int8_t>());
  s.time_beside(packed, dense);
  if (!s.serves(1) && !s.serves(kSparseS8FewRows + 1)) return std::nullopt;
  return s;
}

void SparseWeight::time_beside(const int8_t* packed, const KernelRow<GemmS8Args>& dense) {
  const double rows = kTrialProducts / static_cast<double>(n_ * k_total_);
  const int64_t many = std::clamp<int64_t>(static_cast<int64_t>(rows), 16, 64);
  const auto columns = static_cast<size_t>(n_);
  const std::vector<int32_t> offset(columns, 0);
  const std::vector<float> scale(columns, 1e-4f), bias(columns, 0.0f);
  Buffer a(static_cast<size_t>(many * k_total_)), out(static_cast<size_t>(many * n_));
  Buffer scratch(static_cast<size_t>(std::max(gemm_s8_scratch_bytes(k_total_), scratch_bytes())));
  GemmS8Args args{};
  args.a = a.data<uint8_t>();
  args.lda = args.k = k_total_;
  args.taps = 1;
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
  const auto ratio = [&](int64_t m) {
    args.m_end = m;
    const double with_zeros = seconds_of([&] { dense.run(args); });
    return with_zeros / std::max(1e-9, seconds_of([&] { run(args); }));
  };
  few_ = ratio(1);
  many_ = ratio(many);
}

void SparseWeight::share_blocks(GemmPartition& partition) const {
  if (partition.by_rows || partition.parts == 1) return;
  std::vector<int64_t> work;
  const int64_t groups = n_ / block_rows_, at_once = kColumnGrain / block_rows_;
  for (int64_t group = 0; group < groups; group += at_once) {
    const int64_t end = std::min(groups, group + at_once);
    work.push_back(begin_[static_cast<size_t>(end)] - begin_[static_cast<size_t>(group)] +
                   kEpilogueBlocks * (end - group));
  }
  partition.columns = runs_of_equal_work(work, kColumnGrain, n_, partition.parts);
}

std::string SparseWeight::describe() const {
  const double kept = static_cast<double>(values_.size()) / static_cast<double>(n_ * k_total_);
  const auto tenths = [](double x) {
    const auto t = std::lround(x * 10);
    return std::to_string(t / 10) + "." + std::to_string(t % 10);
  };
  return std::string(kernel_->name) + ", blocks of " + std::to_string(block_rows_) + "x4, " +
         std::to_string(std::lround(kept * 100)) + " % kept: " + tenths(many_) +
         " times as fast as dense (one row: " + tenths(few_) + ")";
}

}  // namespace taille
