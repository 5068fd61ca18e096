#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/attention_impl.h"

namespace taille {

void attention_neon(const AttentionArgs& g) { attention_run(g); }

}  // namespace taille
