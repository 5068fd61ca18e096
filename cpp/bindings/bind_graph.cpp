// _native.Graph: built by capture, rewritten by the passes, saved and run.
#include <cmath>

#include "bindings/arrays.h"
#include "graph/graph.h"
#include "graph/ops.h"

namespace taille {

namespace {

py::list to_python(const Shape& shape) {
  py::list out;
  for (const Dim& d : shape) {
    if (d.is_constant())
      out.append(d.constant());
    else
      out.append(d.text());
  }
  return out;
}

py::object to_python(const Attr& attr) {
  if (const Shape* shape = std::get_if<Shape>(&attr)) return to_python(*shape);
  return std::visit(
      [](const auto& v) -> py::object {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Shape>)
          return py::none();
        else
          return py::cast(v);
      },
      attr);
}

Dim dim_from(const py::handle& item) {
  if (py::isinstance<py::int_>(item)) return Dim(item.cast<int64_t>());
  if (py::isinstance<py::str>(item)) return Dim::parse(item.cast<std::string>());
  throw TypeError(concat("a dimension is ", std::string(py::str(py::type::of(item))), "; wanted int or str"));
}

Shape shape_from(const py::sequence& items) {
  Shape shape;
  for (const py::handle& item : items) shape.push_back(dim_from(item));
  return shape;
}

// The attribute's type is the Python type; a list is dims where the op declares dims (attr_is_dims).
Attr attr_from(const std::string& op, const std::string& key, const py::handle& value) {
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::int_>(value)) return value.cast<int64_t>();
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
    if (attr_is_dims(op, key)) return shape_from(value.cast<py::sequence>());
    return value.cast<std::vector<int64_t>>();
  }
  throw TypeError(concat("attribute '", key, "' of ", op, " is a ", std::string(py::str(py::type::of(value)))));
}

TensorPtr tensor_from(const py::array& given) {
  py::array array = py::array::ensure(given, py::array::c_style);
  check(array && array.dtype().is(given.dtype()), "the constant is not a plain array");
  auto tensor =
      std::make_shared<Tensor>(dtype_of(array), std::vector<int64_t>(array.shape(), array.shape() + array.ndim()));
  if (tensor->data.size() > 0) std::memcpy(tensor->data.data(), array.data(), tensor->data.size());
  return tensor;
}

py::array array_from(const Tensor& t) {
  py::array array(numpy_dtype(t.dtype), t.dims);
  if (t.data.size() > 0) std::memcpy(array.mutable_data(), t.data.data(), t.data.size());
  return array;
}

py::tuple describe(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  return py::make_tuple(v.name, std::string(name_of(v.dtype)), to_python(v.shape));
}

void check_id(const Graph& g, ValueId id) {
  check(id >= 0 && static_cast<size_t>(id) < g.values.size(), "the graph has no value ", id);
}

using GivenQuant = std::optional<std::pair<float, int32_t>>;  // scale, zero point

std::optional<Quant> quant_from(const GivenQuant& given) {
  if (!given) return {};
  const auto [scale, zero] = *given;
  check(std::isfinite(scale) && scale > 0, "the scale is ", scale, "; wanted a finite number above 0");
  check(zero >= 0 && zero <= 255, "the zero point is ", zero, "; wanted 0 .. 255");
  return Quant{scale, zero};
}

ValueId add_input(Graph& g, std::string name, const std::string& dtype, const py::sequence& shape,
                  const GivenQuant& quant) {
  const DType type = dtype_from_name(dtype);
  check(!quant || type == DType::u8, "graph input '", name, "' is ", dtype, "; only uint8 has a scale");
  const ValueId id = g.add_input(std::move(name), type, shape_from(shape));
  g.value(id).quant = quant_from(quant);
  return id;
}

void set_constant(Graph& g, ValueId id, const py::array& array) {
  check_id(g, id);
  check(g.is_constant(id), "value '", g.value(id).name, "' is not a constant");
  TensorPtr tensor = tensor_from(array);
  const Tensor& before = *g.value(id).constant;
  check(tensor->dtype == before.dtype && tensor->dims == before.dims, "constant '", g.value(id).name,
        "': the array has another dtype or shape");
  g.value(id).constant = std::move(tensor);
}

ValueId add_node(Graph& g, const std::string& op, const std::vector<ValueId>& inputs, const py::dict& attrs,
                 const std::string& name, const std::string& source, const GivenQuant& quant) {
  Node node;
  node.op = op;
  node.name = name.empty() ? concat(op, "_", g.nodes.size()) : name;
  node.source = source;
  node.inputs = inputs;
  for (auto [key, value] : attrs) {
    std::string k = key.cast<std::string>();
    node.attrs.emplace(k, attr_from(op, k, value));
  }
  return g.add_node(std::move(node), quant_from(quant));
}

py::list nodes_of(const Graph& g) {
  py::list out;
  for (const Node& node : g.nodes) {
    py::dict attrs;
    for (const auto& [key, attr] : node.attrs) attrs[py::str(key)] = to_python(attr);
    const Value& v = g.value(node.output);
    out.append(py::dict(py::arg("op") = node.op, py::arg("name") = node.name, py::arg("source") = node.source,
                        py::arg("inputs") = node.inputs, py::arg("output") = node.output, py::arg("attrs") = attrs,
                        py::arg("dtype") = std::string(name_of(v.dtype)), py::arg("shape") = to_python(v.shape)));
  }
  return out;
}

py::list inputs_of(const Graph& g) {
  py::list out;
  for (ValueId i : g.inputs) out.append(describe(g, i));
  return out;
}

py::list outputs_of(const Graph& g) {
  py::list out;
  for (size_t i = 0; i < g.outputs.size(); ++i) {
    const Value& v = g.value(g.outputs[i]);
    out.append(py::make_tuple(g.output_names[i], std::string(name_of(v.dtype)), to_python(v.shape)));
  }
  return out;
}

py::dict constants_of(const Graph& g) {
  py::dict out;
  for (const Value& v : g.values)
    if (v.constant) out[py::str(v.name)] = array_from(*v.constant);
  return out;
}

}  // namespace

void bind_graph(py::module_& m) {
  m.def("op_names", &op_names, "The ops a graph may hold.");
  py::class_<Graph>(m, "Graph", "A model as data: values, nodes in topological order, named inputs and outputs.")
      .def(py::init<>())
      .def("add_input", &add_input, py::arg("name"), py::arg("dtype"), py::arg("shape"), py::arg("quant") = py::none(),
           "quant: (scale, zero point) of a uint8 input.")
      .def(
          "add_constant",
          [](Graph& g, std::string name, const py::array& array) {
            return g.add_constant(std::move(name), tensor_from(array));
          },
          py::arg("name"), py::arg("array"))
      .def("set_constant", &set_constant, py::arg("value_id"), py::arg("array"),
           "Another array of the same dtype and shape, in this graph only.")
      .def("add_node", &add_node, py::arg("op"), py::arg("inputs"), py::arg("attrs") = py::dict(), py::arg("name") = "",
           py::arg("source") = "", py::arg("quant") = py::none(), "quant: (scale, zero point) of a uint8 output.")
      .def(
          "add_output", [](Graph& g, std::string name, ValueId id) { g.add_output(std::move(name), id); },
          py::arg("name"), py::arg("value"))
      .def(
          "value",
          [](const Graph& g, ValueId id) {
            check_id(g, id);
            return describe(g, id);
          },
          py::arg("value_id"), "(name, dtype, shape) of a value.")
      .def_readwrite("output_structure", &Graph::output_structure)
      .def_property_readonly("inputs", &inputs_of)
      .def_property_readonly("outputs", &outputs_of)
      .def_property_readonly("nodes", &nodes_of)
      .def("constants", &constants_of, "Copies of all constants, by name; bfloat16 ones as their bits, uint16.")
      .def("symbols", &Graph::symbols)
      .def("dump", &Graph::dump)
      .def("validate", &Graph::validate)
      .def("copy", [](const Graph& g) { return Graph(g); })
      .def(
          "parameter_count",
          [](const Graph& g) {
            int64_t n = 0;
            for (const Value& v : g.values) n += v.constant ? v.constant->count() : 0;
            return n;
          },
          "Elements in all constants.");
}

}  // namespace taille
