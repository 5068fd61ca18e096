#include "kernels/kernel_table.h"

namespace taille {
namespace {

template <class Args>
[[maybe_unused]] void append(std::vector<KernelListing>& out, const char* op, KernelTable<Args> table) {
  for (const auto& row : table) out.push_back({op, row.name, row.required});
}

}  // namespace

std::vector<KernelListing> list_kernels() {
  std::vector<KernelListing> out;
  return out;
}

}  // namespace taille
