// The table is 128 words in 4 registers: vpermi2w finds the word of 32 bytes at once, their lowest bit the half.
#include "kernels/avx512_s8.h"
#include "kernels/quantize.h"

namespace taille {
namespace {

// index: 32 words of 0..255 -> 32 words of table[index]
inline I find(const I (&table)[4], I index) {
  const I word = _mm512_srli_epi16(index, 1);
  const I low = _mm512_permutex2var_epi16(table[0], word, table[1]);
  const I high = _mm512_permutex2var_epi16(table[2], word, table[3]);
  const __mmask32 is_high = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x80));
  const I found = _mm512_mask_mov_epi16(low, is_high, high);
  const I shift = _mm512_slli_epi16(_mm512_and_si512(index, _mm512_set1_epi16(1)), 3);
  return _mm512_and_si512(_mm512_srlv_epi16(found, shift), _mm512_set1_epi16(0xFF));
}

}  // namespace

void lookup_avx512(const LookupArgs& g) {
  I table[4];
  for (int q = 0; q < 4; ++q) table[q] = load_bytes(g.table + kBytes * q, kBytes);
  for (int64_t i = 0; i < g.n; i += kBytes) {
    const I x = load_bytes(g.a + i, g.n - i);
    const I even = find(table, _mm512_and_si512(x, _mm512_set1_epi16(0xFF)));
    const I odd = find(table, _mm512_srli_epi16(x, 8));
    store_bytes(g.out + i, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)), g.n - i);
  }
}

}  // namespace taille
