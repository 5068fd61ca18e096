#include "runtime/cache_entry.h"

#include <cstring>
#include <new>

namespace taille {
namespace {

constexpr int64_t kPartAlign = 64;

int64_t rounded(int64_t bytes) { return (bytes + kPartAlign - 1) / kPartAlign * kPartAlign; }

int64_t signature_bytes(const CacheKey& key) { return static_cast<int64_t>(key.signature.size_bytes()); }

// Calls with the offset of each input's bytes; gives the offset of the outputs.
template <class F>
int64_t for_each_input(const CacheKey& key, F&& call) {
  int64_t at = rounded(sizeof(CacheEntry)) + rounded(signature_bytes(key));
  for (const InputArray& input : key.inputs) {
    const int64_t bytes = input.bytes();
    call(at, input, bytes);
    at += rounded(bytes);
  }
  return at;
}

uint8_t* bytes_of(CacheEntry* entry, int64_t at) { return reinterpret_cast<uint8_t*>(entry) + at; }
const uint8_t* bytes_of(const CacheEntry* entry, int64_t at) { return reinterpret_cast<const uint8_t*>(entry) + at; }

void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

bool same_bytes(const void* a, const void* b, int64_t bytes) {
  return bytes == 0 || std::memcmp(a, b, static_cast<size_t>(bytes)) == 0;
}

}  // namespace

void write_signature(uint64_t model, std::span<const InputArray> inputs, std::span<const OutputArray> outputs,
                     std::vector<int64_t>& out) {
  out.clear();
  out.push_back(static_cast<int64_t>(model));
  for (const OutputArray& output : outputs) out.push_back(output.bytes);  // as many as the model has
  for (const InputArray& input : inputs) {
    // The rank tells where the dims end, so that no two lists of inputs have one signature.
    out.push_back(static_cast<int64_t>(input.dtype) << 32 | static_cast<int64_t>(input.dims.size()));
    out.insert(out.end(), input.dims.begin(), input.dims.end());
  }
}

int64_t CacheEntry::size(const CacheKey& key, std::span<const OutputArray> outputs) {
  int64_t bytes = for_each_input(key, [](int64_t, const InputArray&, int64_t) {});
  for (const OutputArray& output : outputs) bytes += rounded(output.bytes);
  return bytes;
}

CacheEntry* CacheEntry::create(const CacheKey& key, std::span<const OutputArray> outputs) {
  const int64_t bytes = size(key, outputs);
  void* memory = ::operator new(static_cast<size_t>(bytes), std::align_val_t(kPartAlign));
  auto* entry = new (memory) CacheEntry;
  entry->block_bytes = bytes;
  entry->hash = key.hash;
  entry->signature_count = static_cast<int64_t>(key.signature.size());
  copy_bytes(bytes_of(entry, rounded(sizeof(CacheEntry))), key.signature.data(), signature_bytes(key));
  for_each_input(
      key, [&](int64_t at, const InputArray& input, int64_t n) { copy_bytes(bytes_of(entry, at), input.data, n); });
  return entry;
}

void CacheEntry::destroy(CacheEntry* entry) {
  entry->~CacheEntry();
  ::operator delete(entry, std::align_val_t(kPartAlign));
}

bool CacheEntry::is(const CacheKey& key) const {
  const uint8_t* own = bytes_of(this, rounded(sizeof(CacheEntry)));
  if (hash != key.hash || signature_count != static_cast<int64_t>(key.signature.size())) return false;
  if (!same_bytes(own, key.signature.data(), signature_bytes(key))) return false;
  bool same = true;
  for_each_input(key, [&](int64_t at, const InputArray& input, int64_t n) {
    same = same && same_bytes(bytes_of(this, at), input.data, n);
  });
  return same;
}

std::vector<const void*> CacheEntry::inputs(const CacheKey& key) const {
  std::vector<const void*> out;
  for_each_input(key, [&](int64_t at, const InputArray&, int64_t) { out.push_back(bytes_of(this, at)); });
  return out;
}

std::vector<void*> CacheEntry::outputs(const CacheKey& key, std::span<const OutputArray> outputs) {
  int64_t at = for_each_input(key, [](int64_t, const InputArray&, int64_t) {});
  std::vector<void*> out;
  for (const OutputArray& output : outputs) {
    out.push_back(bytes_of(this, at));
    at += rounded(output.bytes);
  }
  return out;
}

void CacheEntry::copy_outputs(const CacheKey& key, std::span<const OutputArray> to) const {
  int64_t at = for_each_input(key, [](int64_t, const InputArray&, int64_t) {});
  for (const OutputArray& output : to) {
    copy_bytes(output.data, bytes_of(this, at), output.bytes);
    at += rounded(output.bytes);
  }
}

}  // namespace taille
