#include "runtime/epilogue.h"

#include <algorithm>
#include <cmath>

namespace taille {

ByteClamp byte_clamp(double lo, double hi, const Quant& out) {
  auto steps = [&](double v) { return std::clamp(v / out.scale + out.zero_point, 0.0, 255.0); };
  return {static_cast<float>(steps(lo)), static_cast<float>(steps(hi))};
}

AddU8Args add_args(const Quant& a, const Quant* b, const Quant& out, ByteClamp clamp) {
  AddU8Args args{};
  const double fa = static_cast<double>(a.scale) / out.scale;
  double bias = out.zero_point - a.zero_point * fa;
  args.a_scale = static_cast<float>(fa);
  if (b != nullptr) {
    const double fb = static_cast<double>(b->scale) / out.scale;
    args.b_scale = static_cast<float>(fb);
    bias -= b->zero_point * fb;
  }
  args.bias = static_cast<float>(bias);
  args.lo = clamp.lo;
  args.hi = clamp.hi;
  return args;
}

GemmS8Args Int8Epilogue::gemm_args() const {
  GemmS8Args args{};
  args.n = static_cast<int64_t>(scale.size());
  args.offset = offset.data();
  args.scale = scale.data();
  args.bias = bias.data();
  args.residual_scale = residual_scale;
  args.lo = lo;
  args.hi = hi;
  args.bounded = bounded;
  args.out_f32 = out_f32;
  return args;
}

Int8Epilogue int8_epilogue(const Graph& graph, const Node& node) {
  const Value& x = graph.value(node.inputs[0]);
  const Tensor& w = *graph.value(node.inputs[1]).constant;
  const Tensor& w_scale = *graph.value(node.inputs[4]).constant;
  const Value& out = graph.value(node.output);
  const float* bias = node.has_input(2) ? graph.value(node.inputs[2]).constant->as<float>() : nullptr;
  const int64_t rows = w.dims[0], row = rows ? w.count() / rows : 0;

  Int8Epilogue e;
  e.out_f32 = out.dtype == DType::f32;
  e.pad_byte = static_cast<uint8_t>(x.quant->zero_point);
  // Everything in double, rounded once: these are constants of the model, the same on every machine.
  const double step = e.out_f32 ? 1.0 : out.quant->scale;
  double shift = e.out_f32 ? 0.0 : out.quant->zero_point;
  if (node.has_input(3) && !e.out_f32) {
    const Quant& r = *graph.value(node.inputs[3]).quant;
    e.residual_scale = static_cast<float>(r.scale / step);
    shift -= r.zero_point * (r.scale / step);
  }
  for (int64_t n = 0; n < rows; ++n) {
    int32_t sum = 0;
    for (int64_t i = 0; i < row; ++i) sum += w.as<int8_t>()[n * row + i];
    e.offset.push_back(-x.quant->zero_point * sum);
    e.scale.push_back(static_cast<float>(static_cast<double>(x.quant->scale) * w_scale.as<float>()[n] / step));
    e.bias.push_back(static_cast<float>((bias ? bias[n] : 0.0) / step + shift));
  }
  const double lo = node.attr<double>("lo"), hi = node.attr<double>("hi");
  if (e.out_f32) {
    e.lo = static_cast<float>(lo);
    e.hi = static_cast<float>(hi);
  } else {
    const ByteClamp c = byte_clamp(lo, hi, *out.quant);
    e.lo = c.lo;
    e.hi = c.hi;
  }
  GemmS8Args args = e.gemm_args();
  args.taps = 1;
  args.k = row;
  e.bounded = gemm_s8_bounded(args);
  return e;
}

}  // namespace taille
