// Moving data: strided copies and row gathers, which change nothing but for the scales of int8 rows. Portable C++
// (memory-bound) but for transposes.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

inline constexpr int kMaxRank = 8;

// out[i0,i1,...] = in[i0,i1,...], both through strides in elements (in: 0 repeats, negative allowed).
// element_size is 1, 4 or 8.
struct CopyArgs {
  const void* in;
  void* out;
  int64_t element_size;
  int rank;
  int64_t dims[kMaxRank];
  int64_t in_strides[kMaxRank];
  int64_t out_strides[kMaxRank];
};
KernelTable<CopyArgs> copy_table();

// out[i,:] = table[ids[i],:]; the first id outside [0, rows) stops it and is reported in *bad_index (else -1).
struct EmbeddingArgs {
  const void* table;
  int64_t rows;
  int64_t row_bytes;
  const int64_t* ids;
  int64_t count;
  void* out;
  int64_t* bad_index;
};
KernelTable<EmbeddingArgs> embedding_table();

// out[i,:] = table[ids[i],:] * scale[ids[i]]; ids as above.
struct EmbeddingS8Args {
  const int8_t* table;  // [rows, width]
  const float* scale;   // [rows]
  int64_t rows, width;
  const int64_t* ids;
  int64_t count;
  float* out;
  int64_t* bad_index;
};
KernelTable<EmbeddingS8Args> embedding_s8_table();

}  // namespace taille
