#include "kernels/bits16_avx512.h"
// The vocabulary comes first.
#include "kernels/pruning_mask_impl.h"

namespace taille {

void score_bins_avx512(const ScoreBinsArgs& g) { score_bins_run(g); }
void apply_mask_avx512(const ApplyMaskArgs& g) { apply_mask_run(g); }
void block_scores_avx512(const BlockScoresArgs& g) { block_scores_run(g); }
void nm_mask_avx512(const NmMaskArgs& g) { nm_mask_run(g); }

}  // namespace taille
