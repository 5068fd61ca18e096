// Checks and outputs for the bindings of single int8 kernels.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/run_variant.h"

namespace taille {

// `given` where it has the shape, else an error; a new array where there is none.
template <class T>
Array<T> output(const char* op, const std::optional<Array<T>>& given, const std::vector<py::ssize_t>& shape) {
  if (!given) return Array<T>(shape);
  check(given->ndim() == static_cast<py::ssize_t>(shape.size()), op, ": out must be ", shape.size(), "-D");
  for (size_t d = 0; d < shape.size(); ++d)
    check(given->shape(static_cast<py::ssize_t>(d)) == shape[d], op, ": out has ",
          given->shape(static_cast<py::ssize_t>(d)), " elements in dimension ", d, ", wanted ", shape[d]);
  return *given;
}

inline std::vector<py::ssize_t> shape_of(const py::array& x) { return {x.shape(), x.shape() + x.ndim()}; }

// Checks that every offset that is not negative leaves `count` elements of `a` to read, and that a pad row of that
// size is there for the negative ones.
inline void check_offsets(const char* op, const Array<int32_t>& offsets, int64_t a_size, int64_t count,
                          int64_t pad_size) {
  const int32_t* p = offsets.data();
  for (int64_t i = 0; i < offsets.size(); ++i) {
    if (p[i] < 0)
      check(pad_size >= count, op, ": offset ", i, " is negative and pad_row has not ", count, " elements");
    else
      check(p[i] + count <= a_size, op, ": offset ", i, " (", p[i], ") leaves less than ", count, " elements of a");
  }
}

}  // namespace taille
