#include "runtime/cache_worth.h"

#include <algorithm>

#include "base/error.h"

namespace taille {

double CacheWorth::take(Mean& mean) {
  const int64_t sum = mean.sum.exchange(0, std::memory_order_relaxed);
  const int64_t count = mean.count.exchange(0, std::memory_order_relaxed);
  return count > 0 ? static_cast<double>(sum) / static_cast<double>(count) : 0;
}

bool CacheWorth::judge() {
  if (requests_.load(std::memory_order_relaxed) < window_) return false;
  std::string why;
  {
    std::unique_lock lock(judging_, std::try_to_lock);
    if (!lock.owns_lock() || !is_on()) return false;
    const int64_t requests = requests_.load(std::memory_order_relaxed);
    if (requests < window_) return false;  // another thread was here just now
    requests_.store(0, std::memory_order_relaxed);
    const int64_t hits = hits_.exchange(0, std::memory_order_relaxed);
    const double run = take(run_), spent = take(overhead_) * static_cast<double>(requests);
    const double saved = run * static_cast<double>(hits);
    // Where no run was measured, all were hits.
    if (run == 0 || saved >= spent) {
      pause_windows_ = kFirstPause;
      return false;
    }
    const int64_t pause = pause_windows_ * window_;
    pause_windows_ = std::min(2 * pause_windows_, kLongestPause);
    bypass_left_.store(pause, std::memory_order_relaxed);
    switched_off_.fetch_add(1, std::memory_order_relaxed);
    on_.store(false, std::memory_order_relaxed);
    why = concat("of the last ", requests, " requests ", hits, " were hits, which saved ", saved / 1e6, " ms and cost ",
                 spent / 1e6, " ms; it is tried again after ", pause, " requests");
  }
  if (on_switch_) on_switch_(false, why);
  return true;
}

void CacheWorth::count_bypass() {
  if (bypass_left_.fetch_sub(1, std::memory_order_relaxed) != 1) return;  // one thread sees the last of them
  on_.store(true, std::memory_order_relaxed);
  if (on_switch_) on_switch_(true, "it is tried again");
}

}  // namespace taille
