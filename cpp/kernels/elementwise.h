// Element-wise float32 arithmetic and activations on contiguous runs; broadcasting is the executor's.
// Every level gives the same bits: one polynomial each, explicit fused multiply-adds, correctly rounded division.
// Results below the smallest normal float may be 0.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace taille {

enum class UnaryOp : uint8_t {
  clamp,  // min(max(x, lo), hi), NaN stays NaN; relu is clamp(0, inf)
  neg,
  abs,
  exp,  // <= 2 ULP
  log,  // <= 4 ULP
  sqrt,
  rsqrt,  // 1 / sqrt(x)
  reciprocal,
  tanh,         // <= 4 ULP
  sigmoid,      // <= 4 ULP
  silu,         // x * sigmoid(x)
  erf,          // <= 4 ULP
  gelu,         // 0.5 x (1 + erf(x / sqrt 2)); absolute error <= 1e-6 * max(1, |x|)
  gelu_tanh,    // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  hardswish,    // x * hardsigmoid(x)
  hardsigmoid,  // min(max(x + 3, 0), 6) * float(1/6)
};

struct UnaryArgs {
  UnaryOp op;
  const float* x;
  int64_t n;
  float lo, hi;  // clamp only
  float* out;    // may be x
};
KernelTable<UnaryArgs> unary_table();

// minimum and maximum are NaN where either operand is. pow is the C library's, but for b = 2: a * a.
enum class BinaryOp : uint8_t { add, sub, mul, div, minimum, maximum, pow };

struct BinaryArgs {
  BinaryOp op;
  const float* a;
  const float* b;
  int64_t a_step, b_step;  // 1, or 0 for one value repeated
  int64_t n;
  float* out;  // may be a or b where their step is 1
};
KernelTable<BinaryArgs> binary_table();

}  // namespace taille
