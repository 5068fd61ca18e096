// gemm_s8 whose weights are blocks of R outputs by 4 inputs, of which those that are all zero are not stored: the same
// results, bit for bit, as gemm_s8 on the expanded weights, in time proportional to the blocks that are left.
//
// Rows, epilogue and output are gemm_s8's (gemm_s8.h); `product.packed` is not used, and k (bytes per tap) and n are
// multiples of 4 and of R. Columns to do begin and end at multiples of R.
//
// With R up to 4, kernels interleave a tile of rows in scratch, a vector of rows for each group of 4 inputs, so that
// one vector meets the R outputs of a block, whose weights are broadcast. A row alone (or a few) is not interleaved:
// there the R outputs of a block are the lanes.
//
// With R = 16 the outputs of a block fill a vector of the dense kernel, which then skips groups of inputs: skip lists.
#pragma once

#include <cstdint>

#include "kernels/gemm_s8.h"

namespace taille {

// Of w[n][k_total]. Values of a block: R rows of 4 bytes, in the order 0, 2, 1, 3: widened to 16 bits they are the
// pairs that masking and shifting a group of activations gives. Of a skip list: in the order 0, 1, 2, 3.
struct SparseS8 {
  int64_t block_rows;      // R: 1, 2, 4 or kSparseS8ListRows
  const uint32_t* begin;   // [n / R + 1]: the first block of each group of R outputs
  const uint16_t* inputs;  // [blocks]: which group of 4 inputs, ascending within a group of outputs
  const int8_t* values;    // [blocks][R][4]; of skip lists 64-byte aligned, else loads cross cache lines
};

struct GemmSparseS8Args {
  GemmS8Args product;  // scratch: gemm_sparse_s8_scratch_bytes
  SparseS8 weights;
};

inline constexpr int64_t kSparseS8ListRows = 16;                // of a skip list's blocks
inline constexpr int64_t kSparseS8FewRows = 4;                  // up to which rows go one by one
inline constexpr int64_t kSparseS8MaxDepth = int64_t{4} << 16;  // that `inputs` can number

// How many blocks of block_rows x 4 of w[n][k_total] hold a weight that is not 0; n % block_rows = k_total % 4 = 0.
int64_t gemm_sparse_s8_count(const int8_t* w, int64_t n, int64_t k_total, int64_t block_rows);
// Fills arrays of the sizes that SparseS8 names.
void gemm_sparse_s8_pack(const int8_t* w, int64_t n, int64_t k_total, int64_t block_rows, uint32_t* begin,
                         uint16_t* inputs, int8_t* values);
int64_t gemm_sparse_s8_scratch_bytes(int64_t n, int64_t k_total);

KernelTable<GemmSparseS8Args> gemm_sparse_s8_table();

}  // namespace taille
