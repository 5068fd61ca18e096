// The table is 4 registers: vpermi2b looks up 64 bytes in two of them, their highest bit chooses the half.
#include "kernels/avx512_s8.h"
#include "kernels/quantize.h"

namespace taille {

void lookup_avx512vbmi(const LookupArgs& g) {
  I table[4];
  for (int q = 0; q < 4; ++q) table[q] = load_bytes(g.table + kBytes * q, kBytes);
  const auto find = [&](I x) {
    const I low = _mm512_permutex2var_epi8(table[0], x, table[1]);
    const I high = _mm512_permutex2var_epi8(table[2], x, table[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);
  };
  int64_t i = 0;
  for (; i + 2 * kBytes <= g.n; i += 2 * kBytes) {
    const I a = find(load_bytes(g.a + i, kBytes)), b = find(load_bytes(g.a + i + kBytes, kBytes));
    store_bytes(g.out + i, a, kBytes);
    store_bytes(g.out + i + kBytes, b, kBytes);
  }
  for (; i < g.n; i += kBytes) store_bytes(g.out + i, find(load_bytes(g.a + i, g.n - i)), g.n - i);
}

}  // namespace taille
