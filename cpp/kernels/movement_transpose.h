// The driver of copy (movement_portable.cpp), which a vector level calls with its own transposes.
#pragma once

#include <cstdint>

#include "kernels/movement.h"

namespace taille {

// out[a*out_stride + b] = in[b*in_stride + a] for a < columns, b < rows; strides in elements.
struct TransposeArgs {
  const void* in;
  void* out;
  int64_t rows, columns;
  int64_t in_stride, out_stride;
};

// Each gives whether it did the work: not every shape suits it.
struct Transposes {
  bool (*bytes1)(const TransposeArgs&);
  bool (*bytes4)(const TransposeArgs&);
};

void copy_with(const CopyArgs& g, const Transposes& transposes);

}  // namespace taille
