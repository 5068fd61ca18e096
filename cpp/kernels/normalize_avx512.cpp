#include "kernels/vec16_avx512.h"
// The vocabulary comes first.
#include "kernels/normalize_impl.h"

namespace taille {

void softmax_avx512(const SoftmaxArgs& g) { softmax_run(g); }
void layer_norm_avx512(const NormArgs& g) { norm_run<Centred::yes>(g); }
void rms_norm_avx512(const NormArgs& g) { norm_run<Centred::no>(g); }
void mean_rows_avx512(const MeanRowsArgs& g) { mean_rows_run(g); }
void mean_last_avx512(const MeanLastArgs& g) { mean_last_run(g); }

}  // namespace taille
