#include "kernels/vec16_portable.h"
// The vocabulary comes first.
#include "kernels/half_impl.h"

namespace taille {

void widen_portable(const WidenArgs& g) { widen_run(g); }
void narrow_portable(const NarrowArgs& g) { narrow_run(g); }

}  // namespace taille
