// Single kernels of int8 models, by the name of their variant, for tests and benchmarks; and the list of all kernels.
#include "bindings/bind_kernels_int8.h"

#include <chrono>
#include <tuple>

#include "base/isa.h"
#include "kernels/kernel_table.h"

namespace taille {
namespace {

std::vector<std::tuple<std::string, std::string, std::string>> listing() {
  std::vector<std::tuple<std::string, std::string, std::string>> rows;
  for (const auto& kernel : list_kernels())
    rows.emplace_back(kernel.op, kernel.variant, std::string(name_of(kernel.required)));
  return rows;
}

double multiply_chain(int64_t links) {
  uint64_t x = 3;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < links; ++i) {
    x *= x;
    asm volatile("" : "+r"(x));  // neither vectorised nor left out
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void bind_kernels_int8(py::module_& m) {
  using namespace py::literals;
  m.def("list_kernels", &listing, "(op, variant, required CPU level) of every kernel.");
  m.def("multiply_chain", &multiply_chain, "links"_a, py::call_guard<py::gil_scoped_release>(),
        "Seconds for this many 64-bit multiplications, each waiting for the one before (3 cycles on current x86-64).");
  bind_attention_s8(m);
  bind_conv_s8(m);
  bind_gemm_s8(m);
  bind_half_kernels(m);
  bind_pruning_mask_kernels(m);
  bind_window_s8(m);
  bind_quantize(m);
  bind_movement(m);
}

}  // namespace taille
