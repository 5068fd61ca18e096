#include "kernels/vec16_avx2.h"
// The vocabulary comes first.
#include "kernels/attention_s8_impl.h"

namespace taille {

void pack_keys_avx2(const PackKeysArgs& g) { pack_keys_run(g); }
void pack_values_avx2(const PackValuesArgs& g) { pack_values_run(g); }
void softmax_u8_avx2(const SoftmaxU8Args& g) { softmax_u8_run(g); }
void scale_rows_avx2(const ScaleRowsArgs& g) { scale_rows_run(g); }

}  // namespace taille
