#include "bindings/bindings.h"

namespace taille {

void bind_kernels_int8(py::module_&) {}

}  // namespace taille
