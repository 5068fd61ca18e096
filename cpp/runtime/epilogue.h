// From a quantised node's real-valued epilogue to what the int8 kernels take (gemm_s8.h):
//   real = (acc + offset[n]) * s_x * s_w[n] + b[n] (+ residual), clamped to [lo, hi];  in output steps if u8.
#pragma once

#include <vector>

#include "graph/graph.h"
#include "kernels/gemm_s8.h"
#include "kernels/quantize.h"

namespace taille {

struct Int8Epilogue {
  std::vector<int32_t> offset;
  std::vector<float> scale, bias;
  float residual_scale = 0;
  float lo = 0, hi = 0;
  bool out_f32 = false;
  uint8_t pad_byte = 0;  // the input's zero point
  bool bounded = false;  // see gemm_s8_bounded

  // gemm_s8's arguments but for rows, weights and buffers, for all columns.
  GemmS8Args gemm_args() const;
};

Int8Epilogue int8_epilogue(const Graph& graph, const Node& node);

// lo and hi of a clamp in output steps, within [0, 255].
struct ByteClamp {
  float lo, hi;
};
ByteClamp byte_clamp(double lo, double hi, const Quant& out);

// real = (a - za) sa (+ (b - zb) sb), in output steps; `b` null for rescaling alone. Without buffers.
AddU8Args add_args(const Quant& a, const Quant* b, const Quant& out, ByteClamp clamp);

}  // namespace taille
