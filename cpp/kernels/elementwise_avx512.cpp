#include "kernels/vec16_avx512.h"
// The vocabulary comes first.
#include "kernels/elementwise_impl.h"

namespace taille {

void unary_avx512(const UnaryArgs& g) { unary_run(g); }
void binary_avx512(const BinaryArgs& g) { binary_run(g); }

}  // namespace taille
