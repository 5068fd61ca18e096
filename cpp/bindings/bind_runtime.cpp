#include "bindings/bindings.h"

namespace taille {

void bind_runtime(py::module_&) {}

}  // namespace taille
