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
}

}  // namespace taille
