// Runs one row of a kernel table by its name, for the bindings of single kernels.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/isa.h"
#include "bindings/bindings.h"
#include "kernels/kernel_table.h"

namespace taille {

template <class Args>
void run_variant(const char* op, KernelTable<Args> table, const std::string& variant, const Args& args,
                 int64_t repeats = 1) {
  std::string known;
  for (const auto& row : table) {
    if (row.name == variant) {
      require_isa(row.required);
      py::gil_scoped_release nogil;  // raw pointers only; the caller's frame holds the arrays
      for (int64_t i = 0; i < repeats; ++i) row.run(args);
      return;
    }
    known += concat(known.empty() ? "" : ", ", row.name);
  }
  throw std::invalid_argument(concat(op, ": no variant '", variant, "'; there are ", known));
}

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
