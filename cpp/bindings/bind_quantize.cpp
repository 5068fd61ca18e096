// quantize.h: any shape in, the same shape out.
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/quantize.h"

namespace taille {
namespace {

using OutBytes = std::optional<Bytes>;
using OutFloats = std::optional<Floats>;

Bytes quantize_array(const Floats& x, float inverse_scale, float zero_point, const std::string& variant,
                     const OutBytes& out) {
  Bytes q = output("quantize", out, shape_of(x));
  run_variant("quantize", quantize_table(), variant,
              QuantizeArgs{x.data(), x.size(), inverse_scale, zero_point, q.mutable_data()});
  return q;
}

Floats dequantize_array(const Bytes& q, float scale, int32_t zero_point, const std::string& variant,
                        const OutFloats& out) {
  Floats x = output("dequantize", out, shape_of(q));
  run_variant("dequantize", dequantize_table(), variant,
              DequantizeArgs{q.data(), q.size(), scale, zero_point, x.mutable_data()});
  return x;
}

Bytes add_u8(const Bytes& a, const OutBytes& b, float a_scale, float b_scale, float bias, float lo, float hi,
             const std::string& variant, const OutBytes& out) {
  check(!b || shape_of(*b) == shape_of(a), "add_u8: a and b must have one shape");
  check(0 <= lo && lo <= hi && hi <= 255, "add_u8: wanted 0 <= lo <= hi <= 255");
  Bytes q = output("add_u8", out, shape_of(a));
  run_variant("add_u8", add_u8_table(), variant,
              AddU8Args{a.data(), b ? b->data() : nullptr, a.size(), a_scale, b_scale, bias, lo, hi, q.mutable_data()});
  return q;
}

Bytes lookup(const Bytes& a, const Bytes& table, const std::string& variant, const OutBytes& out) {
  check(table.size() == 256, "lookup: table must have 256 entries, got ", table.size());
  Bytes q = output("lookup", out, shape_of(a));
  run_variant("lookup", lookup_table(), variant, LookupArgs{a.data(), a.size(), table.data(), q.mutable_data()});
  return q;
}

py::tuple observe(const Floats& x, float minimum, float maximum, int64_t bad, const std::string& variant) {
  run_variant("observe", observe_table(), variant, ObserveArgs{x.data(), x.size(), &minimum, &maximum, &bad});
  return py::make_tuple(minimum, maximum, bad);
}

Array<int64_t> histogram(const Floats& x, float first, float inverse_width, Array<int64_t> counts,
                         const std::string& variant) {
  check(counts.ndim() == 1 && counts.size() >= 1, "histogram: counts must be 1-D and not empty");
  run_variant("histogram", histogram_table(), variant,
              HistogramArgs{x.data(), x.size(), first, inverse_width, counts.size(), counts.mutable_data()});
  return counts;
}

}  // namespace

void bind_quantize(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("quantize", &quantize_array, no_copy("x"), "inverse_scale"_a, "zero_point"_a, py::kw_only(), "variant"_a,
        no_copy("out") = py::none(), "float32 to uint8.");
  m.def("dequantize", &dequantize_array, no_copy("q"), "scale"_a, "zero_point"_a, py::kw_only(), "variant"_a,
        no_copy("out") = py::none(), "uint8 to float32.");
  m.def("add_u8", &add_u8, no_copy("a"), no_copy("b"), "a_scale"_a, "b_scale"_a, "bias"_a, py::kw_only(), "lo"_a = 0.0f,
        "hi"_a = 255.0f, "variant"_a, no_copy("out") = py::none(), "Add two uint8 arrays, or rescale one (b None).");
  m.def("lookup", &lookup, no_copy("a"), no_copy("table"), py::kw_only(), "variant"_a, no_copy("out") = py::none(),
        "table[a], uint8.");
  m.def("observe", &observe, no_copy("x"), "minimum"_a, "maximum"_a, "bad"_a = 0, py::kw_only(), "variant"_a,
        "Widen (minimum, maximum) to the finite values of x and count the others.");
  m.def("histogram", &histogram, no_copy("x"), "first"_a, "inverse_width"_a, no_copy("counts"), py::kw_only(),
        "variant"_a, "Add the finite values of x to counts (in place).");
}

}  // namespace taille
