#include "kernels/vec16_avx512.h"
// The vocabulary comes first.
#include "kernels/attention_impl.h"

namespace taille {

void attention_avx512(const AttentionArgs& g) { attention_run(g); }

}  // namespace taille
