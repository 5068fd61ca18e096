// Inside of the response cache: one request with its answer, in one block of memory:
//
//   CacheEntry | signature: model, bytes of outputs, dtype and dims of inputs | inputs | outputs    (each 64-byte
//   aligned)
//
// The model runs on these inputs, not on the caller's: what the caller changes meanwhile cannot make a wrong entry.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/call_arrays.h"

namespace taille {

// What two requests must share, down to the last byte, to have one answer.
struct CacheKey {
  std::span<const int64_t> signature;
  std::span<const InputArray> inputs;
  uint64_t hash;
};

// Writes the signature into `out`, whose memory is used again.
void write_signature(uint64_t model, std::span<const InputArray> inputs, std::span<const OutputArray> outputs,
                     std::vector<int64_t>& out);

struct CacheEntry {
  enum class State : uint8_t { pending, ready, failed };  // guarded by the shard, as all but `holders`

  CacheEntry* next = nullptr;  // of the same bucket
  CacheEntry* newer = nullptr;
  CacheEntry* older = nullptr;
  uint64_t hash = 0;
  uint64_t last_use = 0;
  int64_t expires = 0;
  int64_t block_bytes = 0;
  int64_t signature_count = 0;
  State state = State::pending;
  bool in_table = false;
  std::atomic<int32_t> holders{1};  // the last one frees it

  // The bytes that an entry takes.
  static int64_t size(const CacheKey& key, std::span<const OutputArray> outputs);
  // Copies the key; throws std::bad_alloc. One holder.
  static CacheEntry* create(const CacheKey& key, std::span<const OutputArray> outputs);
  static void destroy(CacheEntry* entry);

  bool is(const CacheKey& key) const;
  std::vector<const void*> inputs(const CacheKey& key) const;
  std::vector<void*> outputs(const CacheKey& key, std::span<const OutputArray> outputs);
  void copy_outputs(const CacheKey& key, std::span<const OutputArray> to) const;
};

}  // namespace taille
