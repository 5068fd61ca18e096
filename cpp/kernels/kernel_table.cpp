#include "kernels/kernel_table.h"

#include "kernels/gemm_s8.h"

namespace taille {
namespace {

template <class Args>
void append(std::vector<KernelListing>& out, const char* op, KernelTable<Args> table) {
  for (const auto& row : table) out.push_back({op, row.name, row.required});
}

}  // namespace

std::vector<KernelListing> list_kernels() {
  std::vector<KernelListing> out;
  append(out, "gemm_s8", gemm_s8_table());
  return out;
}

}  // namespace taille
