// A histogram of durations that any thread adds to without a lock. Buckets are 1/8 of an octave wide at most, from 1 us
// to 2^30 us (18 minutes), so above 1 us a quantile is off by 6 % at most.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace taille {

class DurationHistogram {
 public:
  void add(double seconds) {
    const auto nanoseconds = static_cast<uint64_t>(std::clamp(seconds, 0.0, 1e6) * 1e9);
    counts_[bucket_of(nanoseconds >> kShift)].fetch_add(1, std::memory_order_relaxed);
    total_.fetch_add(nanoseconds, std::memory_order_relaxed);
  }

  // What was counted until now. A copy is not of one moment where others add meanwhile.
  struct Snapshot {
    std::vector<std::pair<double, uint64_t>> buckets;  // upper bound in seconds, count; those with a count alone
    uint64_t count = 0;
    double total = 0;  // seconds

    // The middle of the bucket in which that share of the durations ends; 0 where there are none.
    double quantile(double share) const {
      const auto rank = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count)));
      uint64_t below = 0;
      for (const auto& [bound, n] : buckets) {
        below += n;
        if (below >= std::max<uint64_t>(rank, 1)) return bound * kMiddle;
      }
      return 0;
    }
    double mean() const { return count == 0 ? 0 : total / static_cast<double>(count); }
  };

  Snapshot snapshot() const {
    Snapshot out;
    for (size_t b = 0; b < counts_.size(); ++b) {
      const uint64_t n = counts_[b].load(std::memory_order_relaxed);
      if (n == 0) continue;
      out.buckets.emplace_back(upper_bound(b), n);
      out.count += n;
    }
    out.total = static_cast<double>(total_.load(std::memory_order_relaxed)) * 1e-9;
    return out;
  }

 private:
  static constexpr int kShift = 7;       // units of 128 ns: the first 8 buckets, up to 1 us, are one unit wide each
  static constexpr uint64_t kParts = 8;  // buckets in an octave
  static constexpr size_t kBuckets = 8 + 8 * 31;
  static constexpr double kMiddle = 16.0 / 17;  // as far from 8/9 of the bound as from the bound

  static size_t bucket_of(uint64_t units) {
    if (units < kParts) return units;
    const int octave = static_cast<int>(std::bit_width(units)) - 4;  // 0 for 8 .. 15
    const uint64_t part = (units >> octave) - kParts;
    return std::min<size_t>(kParts + kParts * static_cast<size_t>(octave) + part, kBuckets - 1);
  }
  static double upper_bound(size_t bucket) {
    const size_t octave = bucket < kParts ? 0 : bucket / kParts - 1;
    const size_t units = bucket < kParts ? bucket + 1 : (kParts + bucket % kParts + 1) << octave;
    return static_cast<double>(units << kShift) * 1e-9;
  }

  std::array<std::atomic<uint64_t>, kBuckets> counts_{};
  std::atomic<uint64_t> total_{0};  // nanoseconds
};

}  // namespace taille
