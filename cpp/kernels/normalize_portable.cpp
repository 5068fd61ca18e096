#include "kernels/vec16_portable.h"
// The vocabulary comes first.
#include "kernels/normalize_impl.h"

namespace taille {

void softmax_portable(const SoftmaxArgs& g) { softmax_run(g); }
void layer_norm_portable(const NormArgs& g) { norm_run<Centred::yes>(g); }
void rms_norm_portable(const NormArgs& g) { norm_run<Centred::no>(g); }
void mean_rows_portable(const MeanRowsArgs& g) { mean_rows_run(g); }
void mean_last_portable(const MeanLastArgs& g) { mean_last_run(g); }

}  // namespace taille
