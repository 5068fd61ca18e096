#include "bindings/arrays.h"

namespace taille {

namespace {

std::string names_of_inputs(const Graph& graph) {
  std::string names;
  for (ValueId i : graph.inputs) names += (names.empty() ? "'" : ", '") + graph.value(i).name + "'";
  return names;
}

}  // namespace

InputArrays::InputArrays(const Graph& graph, const py::dict& given) {
  for (auto [key, value] : given) {
    const auto name = key.cast<std::string>();
    bool known = false;
    for (ValueId i : graph.inputs) known = known || graph.value(i).name == name;
    check(known, "the model has no input '", name, "'; it takes ", names_of_inputs(graph));
  }
  for (ValueId i : graph.inputs) {
    const Value& v = graph.value(i);
    check(given.contains(v.name.c_str()), "input '", v.name, "' is missing; the model takes ", names_of_inputs(graph));
    const py::object item = given[v.name.c_str()];
    if (!py::isinstance<py::array>(item))
      throw TypeError(concat("input '", v.name, "' is a ",
                             py::str(py::type::of(item).attr("__name__")).cast<std::string>(),
                             "; wanted a numpy array of ", name_of(v.dtype)));
    auto array = item.cast<py::array>();
    const auto dtype = py::str(array.dtype().attr("name")).cast<std::string>();
    if (dtype != name_of(v.dtype) || !array.dtype().attr("isnative").cast<bool>())
      throw TypeError(concat("input '", v.name, "' is ", dtype, "; wanted ", name_of(v.dtype)));
    array = py::array::ensure(array, py::array::c_style);
    held_.push_back(array);
    arrays.push_back({array.data(), v.dtype, Dims(array.shape(), array.shape() + array.ndim())});
    pointers.push_back(array.data());
  }
}

OutputArrays::OutputArrays(const Graph& graph, const Plan& plan) {
  for (ValueId o : graph.outputs) {
    py::array array(py::dtype(std::string(name_of(graph.value(o).dtype))), plan.dims[static_cast<size_t>(o)]);
    pointers.push_back(array.mutable_data());
    held_.push_back(std::move(array));
  }
}

py::list OutputArrays::list() const {
  py::list out;
  for (const py::array& a : held_) out.append(a);
  return out;
}

}  // namespace taille
