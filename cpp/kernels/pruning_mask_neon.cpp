#include "kernels/bits16_neon.h"
// The vocabulary comes first.
#include "kernels/pruning_mask_impl.h"

namespace taille {

void score_bins_neon(const ScoreBinsArgs& g) { score_bins_run(g); }
void apply_mask_neon(const ApplyMaskArgs& g) { apply_mask_run(g); }
void block_scores_neon(const BlockScoresArgs& g) { block_scores_run(g); }
void nm_mask_neon(const NmMaskArgs& g) { nm_mask_run(g); }

}  // namespace taille
