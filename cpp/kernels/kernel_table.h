// A kernel variant is one row of its op's table, best first, the reference last. Selection, tests and benchmarks
// all walk these tables, so a listed kernel cannot be untested.
//
// A kernel knows pointers, strides and sizes only: it starts no thread, allocates nothing, checks nothing in release
// builds, reads no byte outside what its arguments describe, and gives the same bits at every level (integer sums
// are exact; float sums run in one fixed order with explicit fused multiply-adds).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/isa.h"

namespace taille {

template <class Args>
struct KernelRow {
  const char* name;  // "avx512vnni", ..., "portable", "reference"
  Isa required;
  void (*run)(const Args&);
};

template <class Args>
using KernelTable = std::span<const KernelRow<Args>>;

// The best row that `level` can run. Every table ends with rows any CPU can run.
template <class Args>
const KernelRow<Args>& select_kernel(KernelTable<Args> table, Isa level) {
  for (const auto& row : table)
    if (row.required <= level) return row;
  return table.back();
}

// One line per row of every table, for the tests and `taille doctor`.
struct KernelListing {
  std::string op;
  std::string variant;
  Isa required;
};
std::vector<KernelListing> list_kernels();

}  // namespace taille
