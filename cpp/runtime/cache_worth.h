// Whether a cache pays: what its hits save against what all its lookups cost, both measured, over windows of requests.
// Where a window does not pay, the cache pauses, first for 16 windows, then twice as long each time (up to 1024), until
// one pays again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

namespace taille {

class CacheWorth {
 public:
  // Told of each change, with the reason; outside of all locks, by the thread whose request it was.
  using OnSwitch = std::function<void(bool on, const std::string& why)>;

  CacheWorth(int64_t window, OnSwitch on_switch) : window_(window), on_switch_(std::move(on_switch)) {}

  bool is_on() const { return on_.load(std::memory_order_relaxed); }
  int64_t times_switched_off() const { return switched_off_.load(std::memory_order_relaxed); }

  // Counts a request; whether its times are to be measured (one in 16).
  bool begin_request() { return requests_.fetch_add(1, std::memory_order_relaxed) % 16 == 0; }
  // What a request cost beyond the model's own run, in nanoseconds.
  void add_overhead(int64_t ns) { add(overhead_, ns); }
  void add_run(int64_t ns) { add(run_, ns); }
  void count_hit() { hits_.fetch_add(1, std::memory_order_relaxed); }

  // True where this request ended a window that did not pay: the cache is off now and should drop what it holds.
  bool judge();
  // Counts a request that goes past the cache, which is on again after the last of the pause.
  void count_bypass();

 private:
  struct Mean {
    std::atomic<int64_t> sum{0}, count{0};
  };
  static void add(Mean& mean, int64_t ns) {
    mean.sum.fetch_add(ns, std::memory_order_relaxed);
    mean.count.fetch_add(1, std::memory_order_relaxed);
  }
  static double take(Mean& mean);  // the mean, which begins anew; 0 where nothing was measured

  const int64_t window_;
  const OnSwitch on_switch_;
  std::atomic<bool> on_{true};
  std::atomic<int64_t> switched_off_{0};
  std::atomic<int64_t> requests_{0}, hits_{0};  // of this window
  std::atomic<int64_t> bypass_left_{0};
  Mean overhead_, run_;
  std::mutex judging_;  // guards the next
  int64_t pause_windows_ = kFirstPause;

  static constexpr int64_t kFirstPause = 16, kLongestPause = 1024;
};

}  // namespace taille
