// 16-bit floats: the conversions, and the pass that stores weights in them.
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "bindings/report.h"
#include "graph/half.h"
#include "kernels/half.h"

namespace taille {
namespace {

DType half_named(const std::string& name) {
  const DType type = dtype_from_name(name);
  check(is_half(type), "dtype is ", name, "; wanted float16 or bfloat16");
  return type;
}

Array<float> widen(const Array<uint16_t>& x, const std::string& dtype, const std::string& variant,
                   const std::optional<Array<float>>& out) {
  Array<float> y = output("widen", out, shape_of(x));
  run_variant("widen", widen_table(), variant, WidenArgs{x.data(), x.size(), half_named(dtype), y.mutable_data()});
  return y;
}

Array<uint16_t> narrow(const Array<float>& x, const std::string& dtype, const std::string& variant,
                       const std::optional<Array<uint16_t>>& out) {
  Array<uint16_t> y = output("narrow", out, shape_of(x));
  run_variant("narrow", narrow_table(), variant, NarrowArgs{x.data(), x.size(), half_named(dtype), y.mutable_data()});
  return y;
}

py::tuple half_graph(const Graph& graph, const std::string& dtype, const std::vector<std::string>& nodes) {
  const DType type = half_named(dtype);
  std::vector<QuantizeReport> report;
  Graph out;
  {
    py::gil_scoped_release nogil;  // graphs hold no Python objects
    out = half_weights(graph, type, {nodes.begin(), nodes.end()}, &report);
  }
  return py::make_tuple(std::move(out), report_rows(report));
}

}  // namespace

void bind_half_kernels(py::module_& m) {
  using namespace py::literals;
  m.def("widen", &widen, py::arg("x").noconvert(), "dtype"_a, py::kw_only(), "variant"_a,
        py::arg("out").noconvert() = py::none(), "The bits of float16 or bfloat16 numbers to float32.");
  m.def("narrow", &narrow, py::arg("x").noconvert(), "dtype"_a, py::kw_only(), "variant"_a,
        py::arg("out").noconvert() = py::none(), "float32 to the bits of float16 or bfloat16, to nearest even.");
}

void bind_half(py::module_& m) {
  m.def("half_candidates", &half_candidates, py::arg("graph"), "The nodes whose weights can be stored in 16 bits.");
  m.def(
      "half_overflows",
      [](const Graph& graph, const std::string& dtype) { return half_overflows(graph, half_named(dtype)); },
      py::arg("graph"), py::arg("dtype"), "Of these, the nodes with a finite weight that becomes infinite.");
  m.def("half_weights", &half_graph, py::arg("graph"), py::arg("dtype"), py::arg("nodes"),
        "The graph with these nodes' weights as float16 or bfloat16, and a report row per candidate.");
}

}  // namespace taille
