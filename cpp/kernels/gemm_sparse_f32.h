// gemm_f32 whose weights are blocks of R outputs by 4 inputs, of which those that are all zero are not stored. An
// output is summed in gemm_f32's order, with one accumulator, so for finite activations the result equals gemm_f32's on
// the expanded weights under ==: a product by zero that is left out changes no sum but an underflowed one, whose zero
// may keep its sign. (An activation that is infinite or NaN is not multiplied where its weight is not stored.) All
// levels give the same bits.
//
// Rows, epilogue and output are gemm_f32's (gemm_f32.h); `product.packed` and `product.packed_type` are not used, and k
// (floats per tap) and n are multiples of 4 and of R. Columns to do begin and end at multiples of R.
//
// Kernels interleave a tile of rows in scratch, vectors of rows for each input, so that one vector meets the R outputs
// of a block, whose weights are broadcast. A few rows are not interleaved: there the R outputs of a block are the
// lanes.
#pragma once

#include <cstdint>

#include "kernels/gemm_f32.h"

namespace taille {

// Of w[n][k_total]. Values of a block: for each of the 4 inputs, the weights of the R outputs.
struct SparseF32 {
  int64_t block_rows;      // R: 1, 2 or 4
  const uint32_t* begin;   // [n / R + 1]: the first block of each group of R outputs
  const uint16_t* inputs;  // [blocks]: which group of 4 inputs, ascending within a group of outputs
  const float* values;     // [blocks][4][R]
};

struct GemmSparseF32Args {
  GemmF32Args product;  // scratch: gemm_sparse_f32_scratch_bytes
  SparseF32 weights;
};

inline constexpr int64_t kSparseF32FewRows = 4;                  // up to which rows are not interleaved
inline constexpr int64_t kSparseF32TileRows = 16;                // whose time any more of them take, at least
inline constexpr int64_t kSparseF32MaxDepth = int64_t{4} << 16;  // that `inputs` can number

// How many blocks of block_rows x 4 of w[n][k_total] hold a weight that is not 0; n % block_rows = k_total % 4 = 0.
int64_t gemm_sparse_f32_count(const float* w, int64_t n, int64_t k_total, int64_t block_rows);
// Fills arrays of the sizes that SparseF32 names.
void gemm_sparse_f32_pack(const float* w, int64_t n, int64_t k_total, int64_t block_rows, uint32_t* begin,
                          uint16_t* inputs, float* values);
int64_t gemm_sparse_f32_scratch_bytes(int64_t n, int64_t k_total);

KernelTable<GemmSparseF32Args> gemm_sparse_f32_table();

}  // namespace taille
