// The only pybind11 code: check the arguments, take raw pointers, release the GIL, make one native call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/error.h"

namespace taille {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void bind_base(py::module_& m);
void bind_kernels_int8(py::module_& m);  // into _native.kernels
void bind_kernels_f32(py::module_& m);   // into _native.kernels
void bind_graph(py::module_& m);
void bind_half(py::module_& m);
void bind_pruning_mask(py::module_& m);
void bind_artefact(py::module_& m);
void bind_runtime(py::module_& m);
void bind_quantization(py::module_& m);
void bind_testing(py::module_& m);  // into _native.testing

}  // namespace taille
