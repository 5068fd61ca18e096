// Answers of a model by their whole inputs: shapes, dtypes and every byte.
//
// Sharded by a seeded hash; an entry answers only a request that is equal to it byte by byte, so a collision costs a
// comparison and never an answer. Least recently used entries go first, over all shards, so that the bytes of entries,
// requests in flight and tables together never exceed the bound. A request that equals one in flight waits for that
// one's answer. One that finds no room is computed without the cache. Where hits do not pay (cache_worth.h) all
// requests are.
//
// A miss costs a hash of the inputs, one copy of inputs and outputs each, an allocation and two short locks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/function_ref.h"
#include "runtime/cache_entry.h"
#include "runtime/cache_shard.h"
#include "runtime/cache_worth.h"

namespace taille {

// Whole nanoseconds, at least 1; throws std::invalid_argument unless seconds are more than 0.
int64_t ttl_nanoseconds(double seconds);

class ResponseCache {
 public:
  struct Options {
    int64_t bytes;                        // most
    int64_t ttl_ns;                       // how long an answer counts, from when it was there
    int64_t window = 4096;                // requests; see cache_worth.h
    int hash_bits = 64;                   // fewer, to 0, for tests of collisions
    std::function<int64_t()> clock = {};  // nanoseconds, monotonic; empty: the steady clock
    CacheWorth::OnSwitch on_switch = {};  // may be empty
  };
  struct Statistics {
    int64_t hits, misses;  // answered from an entry; computed and kept
    int64_t shared;        // waited for an equal request in flight
    int64_t no_room;       // computed and not kept, since what is in use left no room
    int64_t bypassed;      // computed while the cache was off
    int64_t evictions, expired;
    int64_t entries, bytes;
    int64_t waiting;       // now, for equal requests in flight
    int64_t switched_off;  // how often
    bool on;
  };

  explicit ResponseCache(Options options);
  ~ResponseCache();  // nobody may be in answer()
  ResponseCache(const ResponseCache&) = delete;
  ResponseCache& operator=(const ResponseCache&) = delete;

  // Runs on `inputs`, which need not be the caller's arrays but hold the same bytes, into `outputs`.
  using Compute = FunctionRef<void(std::span<const void* const> inputs, std::span<void* const> outputs)>;

  // Fills `outputs` with what `compute` gives for these inputs, or gave. `model` tells models apart: what one computed
  // never answers for another. What compute throws goes to its caller, and nothing is kept. Safe from several threads.
  void answer(uint64_t model, std::span<const InputArray> inputs, std::span<const OutputArray> outputs,
              Compute compute);

  // Drops all that is kept; requests in flight are answered, and not kept.
  void clear();
  Statistics statistics() const;

 private:
  static constexpr size_t kShards = 16;
  using Shard = CacheShard;
  using Shards = std::array<Shard, kShards>;

  struct Counters {
    std::atomic<int64_t> hits{0}, misses{0}, shared{0}, no_room{0}, bypassed{0}, evictions{0}, expired{0}, entries{0},
        waiting{0};
  };

  class Forks;

  const Options options_;
  const uint64_t seed_;
  std::unique_ptr<Shards> shards_;
  std::atomic<int64_t> bytes_{0};
  std::atomic<uint64_t> uses_{0};
  Counters counters_;
  CacheWorth worth_;

  int64_t now() const;
  uint64_t hash_of(const CacheKey& key) const;
  // Nanoseconds in the model where they are measured; below 0 where the request waited for another.
  int64_t find_or_run(const CacheKey& key, std::span<const OutputArray> outputs, Compute compute, int64_t start,
                      bool timed);
  int64_t run_into(Shard& shard, CacheEntry* entry, const CacheKey& key, std::span<const OutputArray> outputs,
                   Compute compute, bool timed);
  int64_t timed_run(bool timed, FunctionRef<void()> run);
  CacheEntry* live(Shard& shard, const CacheKey& key, int64_t at);
  bool answered(Shard& shard, std::unique_lock<std::mutex>& lock, CacheEntry* entry, const CacheKey& key,
                std::span<const OutputArray> outputs);
  CacheEntry* new_entry(const CacheKey& key, std::span<const OutputArray> outputs);
  bool reserve(int64_t bytes);
  bool make_room(int64_t bytes);
  bool evict_oldest();
  void grow(Shard& shard);
  void drop(Shard& shard, CacheEntry* entry);
  void let_go(CacheEntry* entry);
  void forget_parent();
};

}  // namespace taille
