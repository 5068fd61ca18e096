#include "runtime/response_cache.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/hash64.h"

namespace taille {
namespace {

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

std::vector<const void*> pointers_of(std::span<const InputArray> inputs) {
  std::vector<const void*> out;
  for (const InputArray& input : inputs) out.push_back(input.data);
  return out;
}

std::vector<void*> pointers_of(std::span<const OutputArray> outputs) {
  std::vector<void*> out;
  for (const OutputArray& output : outputs) out.push_back(output.data);
  return out;
}

int64_t table_bytes(size_t buckets) { return static_cast<int64_t>(buckets * sizeof(CacheEntry*)); }

}  // namespace

int64_t ttl_nanoseconds(double seconds) {
  check(seconds > 0, "ttl is ", seconds, " s; wanted more than 0");  // NaN is not
  constexpr double kMost = 4e18;                                     // a century, and room to add a time
  return std::max<int64_t>(1, static_cast<int64_t>(std::min(seconds * 1e9, kMost)));
}

// A child has none of its parent's threads: what they held locked or were computing is left behind.
class ResponseCache::Forks {
 public:
  static void add(ResponseCache* cache) {
    static const int registered = pthread_atfork([] { mutex().lock(); }, [] { mutex().unlock(); }, in_child);
    static_cast<void>(registered);
    std::lock_guard lock(mutex());
    all().push_back(cache);
  }
  static void remove(ResponseCache* cache) {
    std::lock_guard lock(mutex());
    std::erase(all(), cache);
  }

 private:
  static std::mutex& mutex() {
    static auto& one = *new std::mutex;
    return one;
  }
  static std::vector<ResponseCache*>& all() {
    static auto& caches = *new std::vector<ResponseCache*>;
    return caches;
  }
  static void in_child() {
    for (ResponseCache* cache : all()) cache->forget_parent();
    mutex().unlock();
  }
};

ResponseCache::ResponseCache(Options options)
    : options_(std::move(options)),
      seed_(random_seed()),
      shards_(std::make_unique<Shards>()),
      worth_(options_.window, options_.on_switch) {
  check(options_.bytes > 0, "ResponseCache: bytes is ", options_.bytes, "; wanted at least 1");
  check(options_.ttl_ns > 0, "ResponseCache: ttl_ns is ", options_.ttl_ns, "; wanted at least 1");
  check(options_.window > 0, "ResponseCache: window is ", options_.window, "; wanted at least 1");
  check(options_.hash_bits >= 0 && options_.hash_bits <= 64, "ResponseCache: hash_bits is ", options_.hash_bits,
        "; wanted 0 to 64");
  Forks::add(this);
}

ResponseCache::~ResponseCache() {
  Forks::remove(this);
  clear();
}

void ResponseCache::forget_parent() {
  static_cast<void>(shards_.release());  // a lock that is held there will never be free
  shards_ = std::make_unique<Shards>();
  bytes_.store(0);
  counters_.entries.store(0);
  counters_.waiting.store(0);
}

int64_t ResponseCache::now() const {
  if (options_.clock) return options_.clock();
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

uint64_t ResponseCache::hash_of(const CacheKey& key) const {
  const auto signature = std::as_bytes(key.signature);
  uint64_t hash = hash64({reinterpret_cast<const uint8_t*>(signature.data()), signature.size()}, seed_);
  for (const InputArray& input : key.inputs)
    hash = hash64({static_cast<const uint8_t*>(input.data), static_cast<size_t>(input.bytes())}, hash);
  return options_.hash_bits == 64 ? hash : hash & ((uint64_t{1} << options_.hash_bits) - 1);
}

void ResponseCache::answer(uint64_t model, std::span<const InputArray> inputs, std::span<const OutputArray> outputs,
                           Compute compute) {
  if (!worth_.is_on()) {
    counters_.bypassed.fetch_add(1, std::memory_order_relaxed);
    worth_.count_bypass();
    return compute(pointers_of(inputs), pointers_of(outputs));
  }
  const bool timed = worth_.begin_request();
  const int64_t start = now();
  int64_t elsewhere = 0;  // nanoseconds in the model, or waiting for it
  {
    std::vector<int64_t> signature;
    write_signature(model, inputs, outputs, signature);
    CacheKey key{signature, inputs, 0};
    key.hash = hash_of(key);
    elsewhere = find_or_run(key, outputs, compute, start, timed);
  }
  if (timed && elsewhere >= 0) worth_.add_overhead(now() - start - elsewhere);
  if (worth_.judge()) clear();
}

int64_t ResponseCache::find_or_run(const CacheKey& key, std::span<const OutputArray> outputs, Compute compute,
                                   int64_t start, bool timed) {
  Shard& shard = (*shards_)[key.hash >> 60];
  CacheEntry* fresh = nullptr;
  while (true) {
    {
      std::unique_lock lock(shard.mutex);
      if (CacheEntry* entry = live(shard, key, start)) {
        const bool waits = entry->state == CacheEntry::State::pending;
        if (!answered(shard, lock, entry, key, outputs)) continue;
        if (fresh) let_go(fresh);
        return waits ? -1 : 0;
      }
      if (fresh) {
        fresh->holders.store(2, std::memory_order_relaxed);  // the table, and this call
        shard.insert(fresh);
        counters_.entries.fetch_add(1, std::memory_order_relaxed);
        grow(shard);
        break;
      }
    }
    fresh = new_entry(key, outputs);
    if (fresh) continue;  // an equal request may have come meanwhile
    counters_.no_room.fetch_add(1, std::memory_order_relaxed);
    return timed_run(timed, [&] { compute(pointers_of(key.inputs), pointers_of(outputs)); });
  }
  counters_.misses.fetch_add(1, std::memory_order_relaxed);
  return run_into(shard, fresh, key, outputs, compute, timed);
}

int64_t ResponseCache::timed_run(bool timed, FunctionRef<void()> run) {
  const int64_t start = timed ? now() : 0;
  run();
  const int64_t taken = timed ? now() - start : 0;
  if (timed) worth_.add_run(taken);
  return taken;
}

// The entry of this key, in flight or still valid. The shard is locked.
CacheEntry* ResponseCache::live(Shard& shard, const CacheKey& key, int64_t at) {
  CacheEntry* entry = shard.find(key);
  if (!entry || entry->state != CacheEntry::State::ready || entry->expires > at) return entry;
  drop(shard, entry);
  counters_.expired.fetch_add(1, std::memory_order_relaxed);
  return nullptr;
}

// Fills the outputs from an entry, waiting for one in flight; false where that one failed. Gives up the lock.
bool ResponseCache::answered(Shard& shard, std::unique_lock<std::mutex>& lock, CacheEntry* entry, const CacheKey& key,
                             std::span<const OutputArray> outputs) {
  entry->holders.fetch_add(1, std::memory_order_relaxed);
  std::atomic<int64_t>* counter = &counters_.hits;
  if (entry->state == CacheEntry::State::pending) {
    counter = &counters_.shared;
    ++shard.waiters;
    counters_.waiting.fetch_add(1, std::memory_order_relaxed);
    shard.done.wait(lock, [&] { return entry->state != CacheEntry::State::pending; });
    --shard.waiters;
    counters_.waiting.fetch_sub(1, std::memory_order_relaxed);
  } else {
    shard.unlink(entry);
    shard.link_newest(entry, uses_.fetch_add(1, std::memory_order_relaxed));
  }
  const bool ready = entry->state == CacheEntry::State::ready;
  lock.unlock();
  if (ready) {
    entry->copy_outputs(key, outputs);
    counter->fetch_add(1, std::memory_order_relaxed);
    worth_.count_hit();
  }
  let_go(entry);
  return ready;
}

int64_t ResponseCache::run_into(Shard& shard, CacheEntry* entry, const CacheKey& key,
                                std::span<const OutputArray> outputs, Compute compute, bool timed) {
  auto finish = [&](CacheEntry::State state) {
    std::lock_guard lock(shard.mutex);
    entry->state = state;
    if (entry->in_table && state == CacheEntry::State::failed) drop(shard, entry);
    if (entry->in_table) {  // not where clear() took it out
      entry->expires = now() + options_.ttl_ns;
      shard.link_newest(entry, uses_.fetch_add(1, std::memory_order_relaxed));
    }
    if (shard.waiters > 0) shard.done.notify_all();
  };
  int64_t taken = 0;
  try {
    taken = timed_run(timed, [&] { compute(entry->inputs(key), entry->outputs(key, outputs)); });
  } catch (...) {
    finish(CacheEntry::State::failed);
    let_go(entry);
    throw;
  }
  finish(CacheEntry::State::ready);
  entry->copy_outputs(key, outputs);
  let_go(entry);
  return taken;
}

// A copy of the key with room for the answer; null where there is no room.
CacheEntry* ResponseCache::new_entry(const CacheKey& key, std::span<const OutputArray> outputs) {
  const int64_t bytes = CacheEntry::size(key, outputs);
  if (!make_room(bytes)) return nullptr;
  try {
    return CacheEntry::create(key, outputs);
  } catch (const std::bad_alloc&) {
    bytes_.fetch_sub(bytes);
    return nullptr;
  }
}

bool ResponseCache::reserve(int64_t bytes) {
  int64_t held = bytes_.load(std::memory_order_relaxed);
  do {
    if (bytes > options_.bytes - held) return false;
  } while (!bytes_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
  return true;
}

bool ResponseCache::make_room(int64_t bytes) {
  if (bytes > options_.bytes) return false;  // nobody else's answers go for what can never stay
  while (!reserve(bytes))
    if (!evict_oldest()) return false;
  return true;
}

// Drops the entry that was used least recently in all shards, none of which the caller has locked.
bool ResponseCache::evict_oldest() {
  while (true) {
    Shard* found = nullptr;
    uint64_t use = Shard::kNoUse;
    for (Shard& shard : *shards_)
      if (const uint64_t own = shard.oldest_use.load(std::memory_order_relaxed); own < use) {
        use = own;
        found = &shard;
      }
    if (!found) return false;
    std::lock_guard lock(found->mutex);
    if (!found->oldest || found->oldest->last_use != use) continue;  // used or gone meanwhile
    drop(*found, found->oldest);
    counters_.evictions.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
}

// Twice the buckets where there are more entries, if there is room for them. The shard is locked.
void ResponseCache::grow(Shard& shard) {
  const size_t old_size = shard.buckets.size();
  if (shard.count <= old_size || !reserve(table_bytes(2 * old_size))) return;
  try {
    const bool had_own = shard.has_own_buckets();
    shard.rehash(2 * old_size);
    if (had_own) bytes_.fetch_sub(table_bytes(old_size));
  } catch (const std::bad_alloc&) {
    bytes_.fetch_sub(table_bytes(2 * old_size));
  }
}

// Takes an entry out of the table; whoever reads it keeps it until they are done. The shard is locked.
void ResponseCache::drop(Shard& shard, CacheEntry* entry) {
  shard.remove(entry);
  counters_.entries.fetch_sub(1, std::memory_order_relaxed);
  let_go(entry);
}

void ResponseCache::let_go(CacheEntry* entry) {
  if (entry->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const int64_t bytes = entry->block_bytes;
  CacheEntry::destroy(entry);
  bytes_.fetch_sub(bytes);
}

void ResponseCache::clear() {
  for (Shard& shard : *shards_) {
    std::lock_guard lock(shard.mutex);
    for (size_t b = 0; b < shard.buckets.size(); ++b)
      while (shard.buckets[b]) drop(shard, shard.buckets[b]);
    if (!shard.has_own_buckets()) continue;
    const int64_t bytes = table_bytes(shard.buckets.size());
    shard.rehash(0);
    bytes_.fetch_sub(bytes);
  }
}

ResponseCache::Statistics ResponseCache::statistics() const {
  const auto get = [](const std::atomic<int64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  const Counters& c = counters_;
  return {get(c.hits),
          get(c.misses),
          get(c.shared),
          get(c.no_room),
          get(c.bypassed),
          get(c.evictions),
          get(c.expired),
          get(c.entries),
          bytes_.load(),
          get(c.waiting),
          worth_.times_switched_off(),
          worth_.is_on()};
}

}  // namespace taille
