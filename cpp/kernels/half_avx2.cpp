#include "kernels/vec16_avx2.h"
// The vocabulary comes first.
#include "kernels/half_impl.h"

namespace taille {

void widen_avx2(const WidenArgs& g) { widen_run(g); }
void narrow_avx2(const NarrowArgs& g) { narrow_run(g); }

}  // namespace taille
