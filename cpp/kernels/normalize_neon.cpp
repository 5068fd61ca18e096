#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/normalize_impl.h"

namespace taille {

void softmax_neon(const SoftmaxArgs& g) { softmax_run(g); }
void layer_norm_neon(const NormArgs& g) { norm_run<Centred::yes>(g); }
void rms_norm_neon(const NormArgs& g) { norm_run<Centred::no>(g); }
void mean_rows_neon(const MeanRowsArgs& g) { mean_rows_run(g); }
void mean_last_neon(const MeanLastArgs& g) { mean_last_run(g); }

}  // namespace taille
