#include "bindings/bindings.h"

namespace taille {

void bind_base(py::module_&) {}

}  // namespace taille
