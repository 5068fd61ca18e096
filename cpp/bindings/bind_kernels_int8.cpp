#include <chrono>
#include <tuple>

#include "base/isa.h"
#include "bindings/bindings.h"
#include "kernels/kernel_table.h"

namespace taille {

void bind_kernels_int8(py::module_& m) {
  m.def("list_kernels", [] {
    std::vector<std::tuple<std::string, std::string, std::string>> out;
    for (const auto& k : list_kernels()) out.emplace_back(k.op, k.variant, std::string(name_of(k.required)));
    return out;
  });
  m.def(
      "multiply_chain",
      [](int64_t links) {
        uint64_t x = 3;
        const auto start = std::chrono::steady_clock::now();
        for (int64_t i = 0; i < links; ++i) {
          x *= x;
          asm volatile("" : "+r"(x));
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      },
      py::arg("links"));
}

}  // namespace taille
