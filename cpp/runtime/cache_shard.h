// Inside of the response cache: a hash table of entries, and those of them that can go in the order of their last use.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/cache_entry.h"

namespace taille {

struct CacheShard {
  static constexpr uint64_t kNoUse = ~uint64_t{0};

  std::mutex mutex;  // guards all; `oldest_use` is read without it
  std::condition_variable done;
  int64_t waiters = 0;
  size_t count = 0;
  std::array<CacheEntry*, 8> first_buckets{};
  std::vector<CacheEntry*> more_buckets;
  std::span<CacheEntry*> buckets{first_buckets};  // a power of two of them
  CacheEntry* newest = nullptr;
  CacheEntry* oldest = nullptr;
  std::atomic<uint64_t> oldest_use{kNoUse};

  CacheShard() = default;
  CacheShard(const CacheShard&) = delete;
  CacheShard& operator=(const CacheShard&) = delete;

  CacheEntry* find(const CacheKey& key) const;
  void insert(CacheEntry* entry);
  // From the table, and from the order of use where it is ready.
  void remove(CacheEntry* entry);
  void link_newest(CacheEntry* entry, uint64_t use);
  void unlink(CacheEntry* entry);
  // As many buckets (a power of two), or those of the beginning where none are left to move; throws std::bad_alloc.
  void rehash(size_t size);
  bool has_own_buckets() const { return !more_buckets.empty(); }

 private:
  CacheEntry*& bucket_of(uint64_t hash) const { return buckets[hash & (buckets.size() - 1)]; }
};

}  // namespace taille
