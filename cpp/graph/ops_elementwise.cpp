// Inference of element-wise ops, quantise and dequantise.
#include "graph/op_spec.h"

namespace taille {

namespace {

Shape broadcast_inputs(const InferContext& c, size_t first) {
  Shape shape = c.in(first).shape;
  for (size_t i = first + 1; i < c.node.inputs.size(); ++i) {
    try {
      shape = broadcast(shape, c.in(i).shape);
    } catch (const std::invalid_argument& e) {
      c.want(false, e.what());
    }
  }
  return shape;
}

Inferred unary(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  return {DType::f32, c.in(0).shape};
}

Inferred clamp(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::u8});
  c.want(c.real("lo") <= c.real("hi"), "lo ", c.real("lo"), " is above hi ", c.real("hi"));
  return {c.in(0).dtype, c.in(0).shape};
}

Inferred arithmetic(const InferContext& c) {
  const std::string& op = c.node.op;
  c.want(c.in(0).dtype == c.in(1).dtype, "inputs are ", name_of(c.in(0).dtype), " and ", name_of(c.in(1).dtype));
  if (c.in(0).dtype == DType::u8) {
    c.want(op == "add", "uint8 inputs");
    c.want(c.in(0).shape == c.in(1).shape, "uint8 inputs do not broadcast");
    return {DType::u8, c.in(0).shape};
  }
  if (op == "add" || op == "sub" || op == "mul")
    c.want_dtype(0, {DType::f32, DType::s64});
  else
    c.want_dtype(0, {DType::f32});
  return {c.in(0).dtype, broadcast_inputs(c, 0)};
}

Inferred compare(const InferContext& c) {
  c.want(c.in(0).dtype == c.in(1).dtype, "inputs are ", name_of(c.in(0).dtype), " and ", name_of(c.in(1).dtype));
  c.want_dtype(0, {DType::f32, DType::s64, DType::boolean});
  return {DType::boolean, broadcast_inputs(c, 0)};
}

Inferred logical(const InferContext& c) {
  for (size_t i = 0; i < c.node.inputs.size(); ++i) c.want_dtype(i, {DType::boolean});
  return {DType::boolean, broadcast_inputs(c, 0)};
}

Inferred where(const InferContext& c) {
  c.want_dtype(0, {DType::boolean});
  c.want_dtype(1, {DType::f32, DType::s64});
  c.want(c.in(1).dtype == c.in(2).dtype, "branches are ", name_of(c.in(1).dtype), " and ", name_of(c.in(2).dtype));
  return {c.in(1).dtype, broadcast_inputs(c, 0)};
}

Inferred cast(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::s64, DType::boolean});
  const DType to = dtype_from_name(c.text("dtype"));
  c.want(to == DType::f32 || to == DType::s64 || to == DType::boolean, "cannot cast to ", name_of(to));
  return {to, c.in(0).shape};
}

Inferred softmax(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  c.axis("axis", c.in(0).shape.size());
  return {DType::f32, c.in(0).shape};
}

Inferred quantize(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  return {DType::u8, c.in(0).shape};
}

Inferred dequantize(const InferContext& c) {
  c.want_dtype(0, {DType::u8});
  return {DType::f32, c.in(0).shape};
}

Inferred lookup(const InferContext& c) {
  c.want_dtype(0, {DType::u8});
  c.want_dtype(1, {DType::u8});
  c.want(c.graph.is_constant(c.node.inputs[1]) && c.in(1).shape == Shape{Dim(256)}, "the table is not 256 constants");
  return {DType::u8, c.in(0).shape};
}

}  // namespace

std::vector<OpSpec> elementwise_ops() {
  std::vector<OpSpec> ops;
  for (const char* op : {"neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "silu", "erf",
                         "gelu", "gelu_tanh", "hardswish", "hardsigmoid"})
    ops.push_back({op, 1, 1, {}, unary});
  ops.push_back({"clamp", 1, 1, {{"lo", -kInfinity}, {"hi", kInfinity}}, clamp});
  for (const char* op : {"add", "sub", "mul", "div", "minimum", "maximum", "pow"})
    ops.push_back({op, 2, 2, {}, arithmetic});
  for (const char* op : {"eq", "ne", "lt", "le", "gt", "ge"}) ops.push_back({op, 2, 2, {}, compare});
  ops.push_back({"logical_and", 2, 2, {}, logical});
  ops.push_back({"logical_or", 2, 2, {}, logical});
  ops.push_back({"logical_not", 1, 1, {}, logical});
  ops.push_back({"where", 3, 3, {}, where});
  ops.push_back({"cast", 1, 1, {{"dtype", std::string(), true}}, cast});
  ops.push_back({"softmax", 1, 1, {{"axis", int64_t{-1}, true}}, softmax});
  ops.push_back({"quantize", 1, 1, {}, quantize});
  ops.push_back({"dequantize", 1, 1, {}, dequantize});
  ops.push_back({"lookup", 2, 2, {}, lookup});
  return ops;
}

}  // namespace taille
