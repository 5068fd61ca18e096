#include "kernels/vec16_portable.h"
// The vocabulary comes first.
#include "kernels/elementwise_impl.h"

namespace taille {

void unary_portable(const UnaryArgs& g) { unary_run(g); }
void binary_portable(const BinaryArgs& g) { binary_run(g); }

}  // namespace taille
