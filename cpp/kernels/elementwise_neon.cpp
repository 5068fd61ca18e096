#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/elementwise_impl.h"

namespace taille {

void unary_neon(const UnaryArgs& g) { unary_run(g); }
void binary_neon(const BinaryArgs& g) { binary_run(g); }

}  // namespace taille
