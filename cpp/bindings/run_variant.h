// Runs one row of a kernel table by its name, for the bindings of single kernels.
#pragma once

#include <string>

#include "base/error.h"
#include "base/isa.h"
#include "bindings/bindings.h"
#include "kernels/kernel_table.h"

namespace taille {

// Without the GIL; IsaError where this CPU lacks the row's level.
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

}  // namespace taille
