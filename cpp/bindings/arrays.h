// Between numpy arrays and what the runtime takes.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "runtime/model.h"

namespace taille {

// Throws TypeError naming a dtype that taille has not (float64, big-endian, ...).
DType dtype_of(const py::array& array);
py::dtype numpy_dtype(DType dtype);

// The inputs of one call, in graph order. Holds the arrays (copies of those that were not contiguous).
class InputArrays {
 public:
  // Throws TypeError or ValueError naming a missing, unknown or mistyped input.
  InputArrays(const Graph& graph, const py::dict& given);
  // What needs no conversion: aligned C-contiguous numpy arrays of known dtypes, by name, as a tuple or one alone; else
  // nothing. Shapes and dtypes are not compared with the graph's.
  static std::optional<InputArrays> plain(const Graph& graph, py::handle given);

  std::vector<InputArray> arrays;
  std::vector<const void*> pointers;

 private:
  InputArrays() = default;
  std::vector<py::array> held_;
};

// Arrays for the outputs of a plan: those that are given, else new ones.
class OutputArrays {
 public:
  // Throws TypeError or ValueError naming an output that is given with another dtype, shape or layout.
  OutputArrays(const Graph& graph, const Plan& plan, const std::optional<std::vector<py::array>>& given = {});
  py::list list() const;

  std::vector<void*> pointers;

 private:
  std::vector<py::array> held_;
};

}  // namespace taille
