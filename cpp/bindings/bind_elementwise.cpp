// Element-wise kernels and attention, one variant at a time.
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/kernel_arrays.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"

namespace taille {
namespace {

UnaryOp unary_op(const std::string& name) {
  static constexpr const char* names[] = {"clamp", "neg",        "abs",       "exp",        "log",  "sqrt",
                                          "rsqrt", "reciprocal", "tanh",      "sigmoid",    "silu", "erf",
                                          "gelu",  "gelu_tanh",  "hardswish", "hardsigmoid"};
  for (uint8_t i = 0; i < std::size(names); ++i)
    if (name == names[i]) return static_cast<UnaryOp>(i);
  throw std::invalid_argument("unary: no operation '" + name + "'");
}

BinaryOp binary_op(const std::string& name) {
  static constexpr const char* names[] = {"add", "sub", "mul", "div", "minimum", "maximum", "pow"};
  for (uint8_t i = 0; i < std::size(names); ++i)
    if (name == names[i]) return static_cast<BinaryOp>(i);
  throw std::invalid_argument("binary: no operation '" + name + "'");
}

StridedFloats unary_array(const std::string& op, const StridedFloats& x, const std::string& variant, float lo, float hi,
                          std::optional<StridedFloats> out) {
  check(x.ndim() == 1 && contiguous(x), "unary: x must be a contiguous 1-D array");
  StridedFloats result = contiguous_output(out, {x.size()}, "unary");
  run_variant("unary", unary_table(), variant,
              UnaryArgs{unary_op(op), x.data(), x.size(), lo, hi, result.mutable_data()});
  return result;
}

StridedFloats binary_array(const std::string& op, const StridedFloats& a, const StridedFloats& b,
                           const std::string& variant, std::optional<StridedFloats> out) {
  check(a.ndim() == 1 && b.ndim() == 1 && contiguous(a) && contiguous(b), "binary: a and b must be contiguous and 1-D");
  check(a.size() == b.size() || a.size() == 1 || b.size() == 1, "binary: sizes ", a.size(), " and ", b.size());
  const int64_t n = a.size() == 1 ? b.size() : a.size();
  StridedFloats result = contiguous_output(out, {n}, "binary");
  run_variant("binary", binary_table(), variant,
              BinaryArgs{binary_op(op), a.data(), b.data(), a.size() == 1 ? 0 : 1, b.size() == 1 ? 0 : 1, n,
                         result.mutable_data()});
  return result;
}

// A (queries, keys) mask; strides of 0 (numpy.broadcast_to) repeat it.
template <class T>
const T* float_mask_of(const std::optional<py::array_t<T>>& mask, int64_t queries, int64_t keys, AttentionArgs* g) {
  if (!mask) return nullptr;
  check(mask->ndim() == 2 && mask->shape(0) == queries && mask->shape(1) == keys, "attention: a mask must be (",
        queries, ", ", keys, ")");
  const int64_t item = sizeof(T);
  g->mask_stride = mask->strides(0) / item;
  g->mask_step = mask->strides(1) / item;
  check(mask->strides(0) % item == 0 && (mask->strides(1) == 0 || g->mask_step == 1),
        "attention: a mask must be contiguous or repeated over the keys");
  return mask->data();
}

StridedFloats attention_array(const StridedFloats& q, const StridedFloats& k, const StridedFloats& v,
                              const std::string& variant, float scale, std::optional<StridedFloats> mask,
                              std::optional<py::array_t<uint8_t>> mask_bool, bool causal, Part rows,
                              std::optional<StridedFloats> scratch, std::optional<StridedFloats> out) {
  AttentionArgs g{};
  g.q = rows_of(q, -1, "attention: q", &g.q_stride);
  g.k = rows_of(k, q.shape(1), "attention: k", &g.k_stride);
  g.v = rows_of(v, -1, "attention: v", &g.v_stride);
  g.keys = k.shape(0);
  g.dim = q.shape(1);
  g.value_dim = v.shape(1);
  check(v.shape(0) == g.keys, "attention: k has ", g.keys, " rows, v has ", v.shape(0));
  check(!(mask && mask_bool), "attention: give one mask, additive or boolean");
  std::tie(g.q_begin, g.q_end) = part_of(rows, q.shape(0), "attention: rows");
  g.mask = float_mask_of(mask, q.shape(0), g.keys, &g);
  g.mask_bool = float_mask_of(mask_bool, q.shape(0), g.keys, &g);
  g.causal = causal;
  g.scale = scale;
  StridedFloats room =
      contiguous_output(scratch, {attention_scratch_floats(g.keys, g.dim, g.value_dim)}, "attention: scratch");
  g.scratch = room.mutable_data();
  StridedFloats result = output(out, {q.shape(0), g.value_dim}, "attention");
  g.out = mutable_rows_of(result, &g.out_stride);
  run_variant("attention", attention_table(), variant, g);
  return result;
}

}  // namespace

void bind_elementwise(py::module_& m) {
  using py::arg;
  m.def("unary", unary_array, arg("op"), arg("x").noconvert(), py::kw_only(), arg("variant"), arg("lo") = -kInf,
        arg("hi") = kInf, arg("out").noconvert() = py::none());
  m.def("binary", binary_array, arg("op"), arg("a").noconvert(), arg("b").noconvert(), py::kw_only(), arg("variant"),
        arg("out").noconvert() = py::none());
  m.def("attention_scratch_floats", attention_scratch_floats, arg("keys"), arg("dim"), arg("value_dim"));
  m.def("attention", attention_array, arg("q").noconvert(), arg("k").noconvert(), arg("v").noconvert(), py::kw_only(),
        arg("variant"), arg("scale") = 1.0f, arg("mask").noconvert() = py::none(),
        arg("mask_bool").noconvert() = py::none(), arg("causal") = false, arg("rows") = py::none(),
        arg("scratch").noconvert() = py::none(), arg("out").noconvert() = py::none());
}

}  // namespace taille
