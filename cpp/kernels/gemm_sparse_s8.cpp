#include "kernels/gemm_sparse_s8.h"

#include <algorithm>

#include "kernels/sparse_blocks.h"

namespace taille {

void gemm_sparse_s8_avx512vnni(const GemmSparseS8Args&);
void gemm_sparse_s8_avx512(const GemmSparseS8Args&);
void gemm_sparse_s8_avx2(const GemmSparseS8Args&);
void gemm_sparse_s8_reference(const GemmSparseS8Args&);

namespace {

constexpr int64_t kTileRows = 64;  // at most, of any level: bytes of scratch for each of K, or 32 rows of 16 bits
constexpr int kPairs[] = {0, 2, 1, 3}, kInOrder[] = {0, 1, 2, 3};

}  // namespace

int64_t gemm_sparse_s8_count(const int8_t* w, int64_t n, int64_t k_total, int64_t block_rows) {
  return count_blocks(w, n, k_total, block_rows);
}

void gemm_sparse_s8_pack(const int8_t* w, int64_t n, int64_t k_total, int64_t block_rows, uint32_t* begin,
                         uint16_t* inputs, int8_t* values) {
  const int (&order)[4] = block_rows == kSparseS8ListRows ? kInOrder : kPairs;
  uint32_t blocks = 0;
  for (int64_t j = 0; j < n; j += block_rows) {
    *begin++ = blocks;
    for (int64_t p = 0; p < k_total; p += 4) {
      const int8_t* block = w + j * k_total + p;
      if (is_zero_block(block, k_total, block_rows)) continue;
      for (int64_t r = 0; r < block_rows; ++r)
        for (int from : order) *values++ = block[r * k_total + from];
      *inputs++ = static_cast<uint16_t>(p / 4);
      ++blocks;
    }
  }
  *begin = blocks;
}

// A tile of interleaved rows, or the sums of a row and the row in 16 bits; or what the dense kernels need.
int64_t gemm_sparse_s8_scratch_bytes(int64_t n, int64_t k_total) {
  const int64_t blocks = std::max(kTileRows * k_total, 4 * n + 2 * k_total) + 256;
  return std::max(blocks, gemm_s8_scratch_bytes(k_total));
}

KernelTable<GemmSparseS8Args> gemm_sparse_s8_table() {
  static constexpr KernelRow<GemmSparseS8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512vnni", Isa::avx512vnni, gemm_sparse_s8_avx512vnni},
      {"avx512", Isa::avx512, gemm_sparse_s8_avx512},
      {"avx2", Isa::avx2, gemm_sparse_s8_avx2},
#endif
      {"reference", Isa::portable, gemm_sparse_s8_reference},
  };
  return rows;
}

}  // namespace taille
