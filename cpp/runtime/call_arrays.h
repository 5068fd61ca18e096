// The arrays of one call, in memory of the caller's.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"

namespace taille {

struct InputArray {
  const void* data;  // row-major
  DType dtype;
  std::vector<int64_t> dims;

  int64_t bytes() const {
    int64_t n = static_cast<int64_t>(size_of(dtype));
    for (int64_t d : dims) n *= d;
    return n;
  }
};

struct OutputArray {
  void* data;  // row-major
  int64_t bytes;
};

}  // namespace taille
