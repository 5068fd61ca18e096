// The only pybind11 code: check the arguments, take raw pointers, release the GIL, make one native call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "base/error.h"

namespace taille {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Bytes = Array<uint8_t>;
using Floats = Array<float>;
using Part = std::optional<std::pair<int64_t, int64_t>>;  // first to end of what a call does; none: all

// `part`, which must lie in 0 .. n; all of it where there is none.
inline std::pair<int64_t, int64_t> part_of(const Part& part, int64_t n, const std::string& what) {
  if (!part) return {0, n};
  check(0 <= part->first && part->first <= part->second && part->second <= n, what, " must lie in 0 .. ", n, ", got (",
        part->first, ", ", part->second, ")");
  return *part;
}

void bind_base(py::module_& m);
void bind_kernels_int8(py::module_& m);  // into _native.kernels
void bind_kernels_f32(py::module_& m);   // into _native.kernels
void bind_graph(py::module_& m);
void bind_half(py::module_& m);
void bind_pruning_mask(py::module_& m);
void bind_artefact(py::module_& m);
void bind_cache(py::module_& m);
void bind_runtime(py::module_& m);
void bind_batcher(py::module_& m);
void bind_quantization(py::module_& m);
void bind_testing(py::module_& m);          // into _native.testing
void bind_testing_batcher(py::module_& m);  // into _native.testing

}  // namespace taille
