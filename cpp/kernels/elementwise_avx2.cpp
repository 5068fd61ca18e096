#include "kernels/vec16_avx2.h"
// The vocabulary comes first.
#include "kernels/elementwise_impl.h"

namespace taille {

void unary_avx2(const UnaryArgs& g) { unary_run(g); }
void binary_avx2(const BinaryArgs& g) { binary_run(g); }

}  // namespace taille
