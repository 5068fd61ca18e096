#include "kernels/vec16_portable.h"
// The vocabulary comes first.
#include "kernels/attention_impl.h"

namespace taille {

void attention_portable(const AttentionArgs& g) { attention_run(g); }

}  // namespace taille
