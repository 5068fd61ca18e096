#include "kernels/vec16_avx2.h"
// The vocabulary comes first.
#include "kernels/normalize_impl.h"

namespace taille {

void softmax_avx2(const SoftmaxArgs& g) { softmax_run(g); }
void layer_norm_avx2(const NormArgs& g) { norm_run<Centred::yes>(g); }
void rms_norm_avx2(const NormArgs& g) { norm_run<Centred::no>(g); }
void mean_rows_avx2(const MeanRowsArgs& g) { mean_rows_run(g); }
void mean_last_avx2(const MeanLastArgs& g) { mean_last_run(g); }

}  // namespace taille
