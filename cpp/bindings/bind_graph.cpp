#include "bindings/bindings.h"

namespace taille {

void bind_graph(py::module_&) {}

}  // namespace taille
