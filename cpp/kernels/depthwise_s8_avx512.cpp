#include "kernels/avx512_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/depthwise_s8_tiles.h"

namespace taille {

void depthwise_s8_portable(const DepthwiseS8Args&);

void depthwise_s8_avx512(const DepthwiseS8Args& g) {
  if (depthwise_s8_fits(g.window))
    depthwise_s8_run(g);
  else
    depthwise_s8_portable(g);
}

}  // namespace taille
