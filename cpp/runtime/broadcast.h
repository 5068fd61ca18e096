// Broadcasting, reduced to runs: dimensions that all operands walk evenly are merged, the last one is the inner run
// (step 0 or more per operand), and the outer ones are counted through.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/operator.h"

namespace taille {

struct BroadcastPlan {
  int64_t outer = 1;           // how many inner runs
  int64_t inner = 1;           // elements in one
  Dims outer_dims;             // their shape
  std::vector<Dims> strides;   // per operand: elements per step of each outer dimension
  std::vector<int64_t> steps;  // per operand: elements per step within the run

  // The operand's element offset where run `i` starts.
  int64_t offset(size_t operand, int64_t i) const {
    int64_t at = 0;
    for (size_t d = outer_dims.size(); d-- > 0;) {
      at += i % outer_dims[d] * strides[operand][d];
      i /= outer_dims[d];
    }
    return at;
  }
};

// Strides of a row-major tensor of shape `in` seen as `out` (0 where it is repeated).
Dims broadcast_strides(const Dims& in, const Dims& out);
BroadcastPlan plan_broadcast(const std::vector<Dims>& operands, const Dims& out);

}  // namespace taille
