#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/attention_s8_impl.h"

namespace taille {

void pack_keys_neon(const PackKeysArgs& g) { pack_keys_run(g); }
void pack_values_neon(const PackValuesArgs& g) { pack_values_run(g); }
void softmax_u8_neon(const SoftmaxU8Args& g) { softmax_u8_run(g); }
void scale_rows_neon(const ScaleRowsArgs& g) { scale_rows_run(g); }

}  // namespace taille
