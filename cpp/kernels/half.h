// Between float32 and its 16-bit forms, float16 and bfloat16.
//
//   widen    exact; a signalling NaN becomes quiet (float16), bits are moved as they are (bfloat16)
//   narrow   to nearest, ties to even; beyond the largest number: infinity; a NaN stays one: sign and the upper bits of
//            its payload, made quiet
//
// Neither depends on the flush modes for denormals: those of float16 are normal in float32, those of float32 round to
// zero in float16 and are only moved in bfloat16.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/kernel_table.h"

namespace taille {

struct WidenArgs {
  const void* in;  // of `type`: float16 or bfloat16
  int64_t n;
  DType type;
  float* out;
};
KernelTable<WidenArgs> widen_table();

struct NarrowArgs {
  const float* in;
  int64_t n;
  DType type;
  void* out;  // of `type`: float16 or bfloat16
};
KernelTable<NarrowArgs> narrow_table();

}  // namespace taille
