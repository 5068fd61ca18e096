#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/half_impl.h"

namespace taille {

void widen_neon(const WidenArgs& g) { widen_run(g); }
void narrow_neon(const NarrowArgs& g) { narrow_run(g); }

}  // namespace taille
