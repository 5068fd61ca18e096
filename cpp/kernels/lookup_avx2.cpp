// vpshufb looks up 16 entries, and gives 0 where an index is negative. Taking 16 off the index 8 times, without
// wrapping, leaves it positive up to its own 16 entries; with each 16 entries stored as their difference (xor) from
// the ones before, the sum (xor) of all lookups is the entry. Once for either half of the table.
#include "kernels/avx2_s8.h"
#include "kernels/quantize.h"

namespace taille {
namespace {

constexpr int kHalf = 8;  // groups of 16 entries

inline I find(const __m128i* differences, I index) {
  I found = zero();
  _Pragma("GCC unroll 8") for (int h = 0; h < kHalf; ++h) {
    const I entries = _mm256_broadcastsi128_si256(_mm_load_si128(differences + h));
    found = _mm256_xor_si256(found, _mm256_shuffle_epi8(entries, index));
    index = _mm256_subs_epi8(index, _mm256_set1_epi8(16));
  }
  return found;
}

}  // namespace

void lookup_avx2(const LookupArgs& g) {
  __m128i differences[2 * kHalf];
  for (int h = 0; h < 2 * kHalf; ++h) {
    const auto* entries = reinterpret_cast<const __m128i*>(g.table) + h;
    const __m128i before = h % kHalf ? _mm_loadu_si128(entries - 1) : _mm_setzero_si128();
    differences[h] = _mm_xor_si128(_mm_loadu_si128(entries), before);
  }
  for (int64_t i = 0; i < g.n; i += kBytes) {
    const I x = load_bytes(g.a + i, g.n - i);
    const I low = find(differences, x);
    const I high = find(differences + kHalf, _mm256_xor_si256(x, _mm256_set1_epi8(-128)));
    store_bytes(g.out + i, _mm256_or_si256(low, high), g.n - i);
  }
}

}  // namespace taille
