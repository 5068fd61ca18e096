#include "bindings/arrays.h"

namespace taille {

namespace {

std::string names_of_inputs(const Graph& graph) {
  std::string names;
  for (ValueId i : graph.inputs) names += (names.empty() ? "'" : ", '") + graph.value(i).name + "'";
  return names;
}

// numpy's name of a dtype, with its byte order where that is not this machine's.
std::string name_in_numpy(const py::dtype& dtype) {
  const auto name = py::str(dtype.attr("name")).cast<std::string>();
  return dtype.attr("isnative").cast<bool>() ? name : "big-endian " + name;
}

std::optional<DType> known_dtype(const py::dtype& dtype) {
  if (dtype.byteorder() == '>') return {};
  const char kind = dtype.kind();
  const auto bytes = dtype.itemsize();
  if (kind == 'f' && bytes == 4) return DType::f32;
  if (kind == 'f' && bytes == 2) return DType::f16;
  if (kind == 'i' && bytes == 8) return DType::s64;
  if (kind == 'i' && bytes == 4) return DType::s32;
  if (kind == 'i' && bytes == 1) return DType::s8;
  if (kind == 'u' && bytes == 1) return DType::u8;
  if (kind == 'b') return DType::boolean;
  return {};
}

// The arrays of a dict by name, of a tuple, or one array; null where there is another number, or another name.
std::vector<PyObject*> items_of(const Graph& graph, py::handle given) {
  const size_t count = graph.inputs.size();
  if (PyTuple_CheckExact(given.ptr()) && static_cast<size_t>(PyTuple_GET_SIZE(given.ptr())) == count) {
    std::vector<PyObject*> items;
    for (size_t i = 0; i < count; ++i) items.push_back(PyTuple_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(i)));
    return items;
  }
  if (!PyDict_CheckExact(given.ptr())) return {given.ptr()};
  std::vector<PyObject*> items;
  if (static_cast<size_t>(PyDict_GET_SIZE(given.ptr())) != count) return {nullptr};
  for (ValueId i : graph.inputs) items.push_back(PyDict_GetItemString(given.ptr(), graph.value(i).name.c_str()));
  return items;
}

}  // namespace

DType dtype_of(const py::array& array) {
  const py::dtype dtype = array.dtype();
  const std::optional<DType> known = known_dtype(dtype);
  return known ? *known : dtype_from_name(name_in_numpy(dtype));
}

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return py::dtype::of<float>();
    case DType::u8:
      return py::dtype::of<uint8_t>();
    case DType::s8:
      return py::dtype::of<int8_t>();
    case DType::s32:
      return py::dtype::of<int32_t>();
    case DType::s64:
      return py::dtype::of<int64_t>();
    case DType::boolean:
      return py::dtype::of<bool>();
    case DType::f16:
      return py::dtype("float16");
    case DType::bf16:
      return py::dtype::of<uint16_t>();  // numpy has no bfloat16: its bits
  }
  throw TypeError("unknown dtype");
}

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
    DType dtype{};
    try {
      dtype = dtype_of(array);
    } catch (const TypeError&) {
      throw TypeError(concat("input '", v.name, "' is ", name_in_numpy(array.dtype()), "; wanted ", name_of(v.dtype)));
    }
    if (dtype != v.dtype)
      throw TypeError(concat("input '", v.name, "' is ", name_of(dtype), "; wanted ", name_of(v.dtype)));
    array = py::array::ensure(array, py::array::c_style);
    held_.push_back(array);
    arrays.push_back({array.data(), v.dtype, Dims(array.shape(), array.shape() + array.ndim())});
    pointers.push_back(array.data());
  }
}

std::optional<InputArrays> InputArrays::plain(const Graph& graph, py::handle given) {
  const std::vector<PyObject*> items = items_of(graph, given);
  if (items.size() != graph.inputs.size()) return {};
  InputArrays found;
  for (PyObject* item : items) {
    if (item == nullptr || !py::isinstance<py::array>(item)) return {};
    auto array = py::reinterpret_borrow<py::array>(item);
    constexpr int kPlain = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const std::optional<DType> dtype = known_dtype(array.dtype());
    if (!dtype || (array.flags() & kPlain) != kPlain) return {};
    found.arrays.push_back({array.data(), *dtype, Dims(array.shape(), array.shape() + array.ndim())});
    found.pointers.push_back(array.data());
    found.held_.push_back(std::move(array));
  }
  return found;
}

OutputArrays::OutputArrays(const Graph& graph, const Plan& plan, const std::optional<std::vector<py::array>>& given) {
  check(!given || given->size() == graph.outputs.size(), "the model has ", graph.outputs.size(), " outputs; ",
        given ? given->size() : 0, " arrays were given for them");
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const Value& v = graph.value(graph.outputs[i]);
    const Dims& dims = plan.dims[static_cast<size_t>(graph.outputs[i])];
    py::array array = given ? (*given)[i] : py::array(numpy_dtype(v.dtype), dims);
    const std::string& name = graph.output_names[i];
    if (!array.dtype().equal(numpy_dtype(v.dtype)))
      throw TypeError(concat("output '", name, "' is ", name_in_numpy(array.dtype()), "; wanted ", name_of(v.dtype)));
    const Dims shape(array.shape(), array.shape() + array.ndim());
    check(shape == dims, "output '", name, "' has shape ", text_of(Shape(shape.begin(), shape.end())), "; wanted ",
          text_of(Shape(dims.begin(), dims.end())));
    check((array.flags() & py::array::c_style) != 0 && array.writeable(), "output '", name,
          "' is not a writeable C-contiguous array");
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
