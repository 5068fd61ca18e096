// Each step takes 16 bytes: two words, each combined with a secret, are multiplied to 128 bits whose halves are
// combined, so every bit of the words reaches about half the bits of the result. Four chains are independent, as one
// product must wait 4 cycles for the one before.
#include "base/hash64.h"

#include <cstring>

namespace taille {
namespace {

__extension__ using Wide = unsigned __int128;

// Odd, with half of their bits set: no pattern in them matters.
constexpr uint64_t kSecrets[] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93,
                                 0xa0761d6478bd642f};

uint64_t folded_product(uint64_t a, uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t word_at(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

}  // namespace

uint64_t hash64(std::span<const uint8_t> bytes, uint64_t seed) {
  const uint64_t own = folded_product(seed ^ kSecrets[0], kSecrets[1]);
  uint64_t secret[4], chain[4];
  for (size_t i = 0; i < 4; ++i) {
    secret[i] = own ^ kSecrets[i];
    chain[i] = folded_product(own ^ kSecrets[i + 1], kSecrets[i]);
  }
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  auto take = [&](size_t i, const uint8_t* q) {
    chain[i] = folded_product(word_at(q) ^ secret[i], word_at(q + 8) ^ chain[i]);
  };
  for (; left >= 64; left -= 64, p += 64)
    for (size_t i = 0; i < 4; ++i) take(i, p + 16 * i);
  for (size_t i = 0; left >= 16; ++i, left -= 16, p += 16) take(i, p);
  if (left > 0) {  // the length, below, tells zeros from nothing
    uint8_t last[16] = {};
    std::memcpy(last, p, left);
    take(3, last);
  }
  const uint64_t a = folded_product(chain[0] ^ secret[0], chain[1] ^ bytes.size());
  const uint64_t b = folded_product(chain[2] ^ secret[1], chain[3] ^ kSecrets[4]);
  return folded_product(a ^ secret[2], b ^ own);
}

}  // namespace taille
