#include "bindings/bindings.h"

namespace taille {

void bind_kernels_f32(py::module_&) {}

}  // namespace taille
