#include "kernels/gemm_sparse_f32.h"

#include <algorithm>

#include "kernels/sparse_blocks.h"

namespace taille {

void gemm_sparse_f32_avx512(const GemmSparseF32Args&);
void gemm_sparse_f32_avx2(const GemmSparseF32Args&);
void gemm_sparse_f32_neon(const GemmSparseF32Args&);
void gemm_sparse_f32_portable(const GemmSparseF32Args&);
void gemm_sparse_f32_reference(const GemmSparseF32Args&);

namespace {

constexpr int64_t kMostTileRows = 64;  // of any level

}  // namespace

int64_t gemm_sparse_f32_count(const float* w, int64_t n, int64_t k_total, int64_t block_rows) {
  return count_blocks(w, n, k_total, block_rows);
}

void gemm_sparse_f32_pack(const float* w, int64_t n, int64_t k_total, int64_t block_rows, uint32_t* begin,
                          uint16_t* inputs, float* values) {
  uint32_t blocks = 0;
  for (int64_t j = 0; j < n; j += block_rows) {
    *begin++ = blocks;
    for (int64_t p = 0; p < k_total; p += 4) {
      const float* block = w + j * k_total + p;
      if (is_zero_block(block, k_total, block_rows)) continue;
      for (int64_t q = 0; q < 4; ++q)
        for (int64_t r = 0; r < block_rows; ++r) *values++ = block[r * k_total + q];
      *inputs++ = static_cast<uint16_t>(p / 4);
      ++blocks;
    }
  }
  *begin = blocks;
}

// A tile of interleaved rows, or few rows and their sums.
int64_t gemm_sparse_f32_scratch_bytes(int64_t n, int64_t k_total) {
  return 4 * std::max(kMostTileRows * k_total, kSparseF32FewRows * (n + k_total));
}

KernelTable<GemmSparseF32Args> gemm_sparse_f32_table() {
  static constexpr KernelRow<GemmSparseF32Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, gemm_sparse_f32_avx512},
      {"avx2", Isa::avx2, gemm_sparse_f32_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, gemm_sparse_f32_neon},
#endif
      {"portable", Isa::portable, gemm_sparse_f32_portable},
      {"reference", Isa::portable, gemm_sparse_f32_reference},
  };
  return rows;
}

}  // namespace taille
