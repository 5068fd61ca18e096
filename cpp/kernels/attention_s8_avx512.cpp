#include "kernels/vec16_avx512.h"
// The vocabulary comes first.
#include "kernels/attention_s8_impl.h"

namespace taille {

void pack_keys_avx512(const PackKeysArgs& g) { pack_keys_run(g); }
void pack_values_avx512(const PackValuesArgs& g) { pack_values_run(g); }
void softmax_u8_avx512(const SoftmaxU8Args& g) { softmax_u8_run(g); }
void scale_rows_avx512(const ScaleRowsArgs& g) { scale_rows_run(g); }

}  // namespace taille
