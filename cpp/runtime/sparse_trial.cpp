#include "runtime/sparse_trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

namespace taille {

namespace {

constexpr double kWorthATrial = 0.9;    // share of the dense work from which on it is not
constexpr double kTrialProducts = 2e7;  // multiply-adds of a trial of many rows, or so

constexpr int64_t kColumnGrain = 16;    // a multiple of all block_rows; fewer threads write to one cache line
constexpr int64_t kEpilogueBlocks = 2;  // as many take as long as the epilogue of their outputs, or so

double seconds_of(FunctionRef<void()> run) {
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

BlockChoice choose_blocks(std::span<const BlockForm> forms, int64_t n, int64_t k_total,
                          FunctionRef<int64_t(int64_t)> count) {
  BlockChoice choice;
  double least = kWorthATrial * static_cast<double>(n * k_total);
  for (const BlockForm& form : forms) {
    if (n % form.rows != 0) continue;
    const int64_t blocks = count(form.rows);
    const double cost = static_cast<double>(blocks * form.rows * 4) * form.cost;
    if (cost >= least || blocks > std::numeric_limits<uint32_t>::max()) continue;
    least = cost;
    choice = {form.rows, blocks};
  }
  return choice;
}

std::vector<int32_t> trial_offsets(int64_t rows, int64_t taps, int64_t k) {
  std::vector<int32_t> offsets;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < taps; ++t) offsets.push_back(static_cast<int32_t>((r + t) * k));
  return offsets;
}

int64_t trial_rows(int64_t n, int64_t k_total) {
  return std::clamp<int64_t>(static_cast<int64_t>(kTrialProducts / static_cast<double>(n * k_total)), 16, 64);
}

void share_blocks(std::span<const uint32_t> begin, int64_t n, int64_t block_rows, GemmPartition& partition) {
  if (partition.by_rows || partition.parts == 1) return;
  std::vector<int64_t> work;
  const int64_t groups = n / block_rows, at_once = kColumnGrain / block_rows;
  for (int64_t group = 0; group < groups; group += at_once) {
    const int64_t end = std::min(groups, group + at_once);
    const int64_t blocks = begin[static_cast<size_t>(end)] - begin[static_cast<size_t>(group)];
    work.push_back(blocks + kEpilogueBlocks * (end - group));
  }
  partition.columns = runs_of_equal_work(work, kColumnGrain, n, partition.parts);
}

double times_as_fast(FunctionRef<void()> dense, FunctionRef<void()> sparse) {
  const double with_zeros = seconds_of(dense);
  return with_zeros / std::max(1e-9, seconds_of(sparse));
}

bool SparseGain::serves(int64_t rows, int64_t tile) const {
  if (rows <= few_rows) return (rows == 1 ? one : few) > kLeast;
  return many * std::min(1.0, static_cast<double>(rows) / static_cast<double>(tile)) > kLeast;
}

std::string SparseGain::describe(const char* kernel, int64_t block_rows, double kept) const {
  const auto tenths = [](double x) {
    const auto t = std::lround(x * 10);
    return std::to_string(t / 10) + "." + std::to_string(t % 10);
  };
  return std::string(kernel) + ", blocks of " + std::to_string(block_rows) + "x4, " +
         std::to_string(std::lround(kept * 100)) + " % kept: " + tenths(many) +
         " times as fast as dense (one row: " + tenths(one) + ")";
}

}  // namespace taille
