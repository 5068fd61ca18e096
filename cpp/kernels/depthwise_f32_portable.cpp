#include "kernels/vec16_portable.h"
// The vocabulary comes first.
#include "kernels/depthwise_f32_impl.h"

namespace taille {

void depthwise_f32_portable(const DepthwiseF32Args& g) { depthwise_f32_run(g); }

}  // namespace taille
