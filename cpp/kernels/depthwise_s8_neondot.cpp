#include "kernels/neon_s8_dot.h"
// The vocabulary comes first.
#include "kernels/depthwise_s8_tiles.h"

namespace taille {

void depthwise_s8_portable(const DepthwiseS8Args&);

void depthwise_s8_neondot(const DepthwiseS8Args& g) {
  if (g.bounded && depthwise_s8_fits(g.window))
    depthwise_s8_run(g);
  else
    depthwise_s8_portable(g);
}

}  // namespace taille
