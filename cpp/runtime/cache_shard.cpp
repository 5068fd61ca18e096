#include "runtime/cache_shard.h"

#include <utility>

namespace taille {

CacheEntry* CacheShard::find(const CacheKey& key) const {
  CacheEntry* entry = bucket_of(key.hash);
  while (entry && !entry->is(key)) entry = entry->next;
  return entry;
}

void CacheShard::insert(CacheEntry* entry) {
  CacheEntry*& bucket = bucket_of(entry->hash);
  entry->next = bucket;
  entry->in_table = true;
  bucket = entry;
  ++count;
}

void CacheShard::remove(CacheEntry* entry) {
  CacheEntry** at = &bucket_of(entry->hash);
  while (*at != entry) at = &(*at)->next;
  *at = entry->next;
  entry->in_table = false;
  --count;
  if (entry->state == CacheEntry::State::ready) unlink(entry);
}

void CacheShard::link_newest(CacheEntry* entry, uint64_t use) {
  entry->last_use = use;
  entry->newer = nullptr;
  entry->older = newest;
  (newest ? newest->newer : oldest) = entry;
  newest = entry;
  oldest_use.store(oldest->last_use, std::memory_order_relaxed);
}

void CacheShard::unlink(CacheEntry* entry) {
  (entry->newer ? entry->newer->older : newest) = entry->older;
  (entry->older ? entry->older->newer : oldest) = entry->newer;
  oldest_use.store(oldest ? oldest->last_use : kNoUse, std::memory_order_relaxed);
}

void CacheShard::rehash(size_t size) {
  std::vector<CacheEntry*> old(size);
  std::swap(old, more_buckets);
  std::span<CacheEntry*> from = std::exchange(buckets, size > 0 ? std::span(more_buckets) : std::span(first_buckets));
  for (CacheEntry*& head : from) {
    CacheEntry* entry = std::exchange(head, nullptr);
    while (entry) {
      CacheEntry* next = entry->next;
      CacheEntry*& bucket = bucket_of(entry->hash);
      entry->next = bucket;
      bucket = entry;
      entry = next;
    }
  }
}

}  // namespace taille
