// Element-wise kernels and attention, one variant at a time.
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/kernel_arrays.h"
#include "kernels/elementwise.h"

namespace taille {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

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

Floats unary_array(const std::string& op, const Floats& x, const std::string& variant, float lo, float hi,
                   std::optional<Floats> out) {
  check(x.ndim() == 1 && contiguous(x), "unary: x must be a contiguous 1-D array");
  Floats result = contiguous_output(out, {x.size()}, "unary");
  run_variant(unary_table(), variant, "unary",
              UnaryArgs{unary_op(op), x.data(), x.size(), lo, hi, result.mutable_data()});
  return result;
}

Floats binary_array(const std::string& op, const Floats& a, const Floats& b, const std::string& variant,
                    std::optional<Floats> out) {
  check(a.ndim() == 1 && b.ndim() == 1 && contiguous(a) && contiguous(b), "binary: a and b must be contiguous and 1-D");
  check(a.size() == b.size() || a.size() == 1 || b.size() == 1, "binary: sizes ", a.size(), " and ", b.size());
  const int64_t n = a.size() == 1 ? b.size() : a.size();
  Floats result = contiguous_output(out, {n}, "binary");
  run_variant(binary_table(), variant, "binary",
              BinaryArgs{binary_op(op), a.data(), b.data(), a.size() == 1 ? 0 : 1, b.size() == 1 ? 0 : 1, n,
                         result.mutable_data()});
  return result;
}

}  // namespace

void bind_elementwise(py::module_& m) {
  using py::arg;
  m.def("unary", unary_array, arg("op"), arg("x").noconvert(), py::kw_only(), arg("variant"), arg("lo") = -kInf,
        arg("hi") = kInf, arg("out").noconvert() = py::none());
  m.def("binary", binary_array, arg("op"), arg("a").noconvert(), arg("b").noconvert(), py::kw_only(), arg("variant"),
        arg("out").noconvert() = py::none());
}

}  // namespace taille
