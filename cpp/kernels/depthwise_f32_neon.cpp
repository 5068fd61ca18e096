#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/depthwise_f32_impl.h"

namespace taille {

void depthwise_f32_neon(const DepthwiseF32Args& g) { depthwise_f32_run(g); }

}  // namespace taille
