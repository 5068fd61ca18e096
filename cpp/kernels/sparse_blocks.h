// Blocks of R outputs by 4 inputs of a weight w[n][k_total], for the packing of sparse products. Not for files of a CPU
// level: its templates are shared.
#pragma once

#include <cstdint>

namespace taille {

// Whether all R x 4 weights from `w` on are zero, of either sign.
template <class T>
bool is_zero_block(const T* w, int64_t k_total, int64_t block_rows) {
  for (int64_t r = 0; r < block_rows; ++r)
    for (int64_t p = 0; p < 4; ++p)
      if (w[r * k_total + p] != 0) return false;
  return true;
}

template <class T>
int64_t count_blocks(const T* w, int64_t n, int64_t k_total, int64_t block_rows) {
  int64_t count = 0;
  for (int64_t j = 0; j < n; j += block_rows)
    for (int64_t p = 0; p < k_total; p += 4) count += !is_zero_block(w + j * k_total + p, k_total, block_rows);
  return count;
}

}  // namespace taille
