#include "kernels/bits16_portable.h"
// The vocabulary comes first.
#include "kernels/pruning_mask_impl.h"

namespace taille {

void score_bins_portable(const ScoreBinsArgs& g) { score_bins_run(g); }
void apply_mask_portable(const ApplyMaskArgs& g) { apply_mask_run(g); }
void block_scores_portable(const BlockScoresArgs& g) { block_scores_run(g); }
void nm_mask_portable(const NmMaskArgs& g) { nm_mask_run(g); }

}  // namespace taille
