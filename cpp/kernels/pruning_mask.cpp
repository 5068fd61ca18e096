#include "kernels/pruning_mask.h"

namespace taille {

void score_bins_avx512(const ScoreBinsArgs&);
void score_bins_avx2(const ScoreBinsArgs&);
void score_bins_neon(const ScoreBinsArgs&);
void score_bins_portable(const ScoreBinsArgs&);
void score_bins_reference(const ScoreBinsArgs&);
void apply_mask_avx512(const ApplyMaskArgs&);
void apply_mask_avx2(const ApplyMaskArgs&);
void apply_mask_neon(const ApplyMaskArgs&);
void apply_mask_portable(const ApplyMaskArgs&);
void apply_mask_reference(const ApplyMaskArgs&);
void block_scores_avx512(const BlockScoresArgs&);
void block_scores_avx2(const BlockScoresArgs&);
void block_scores_neon(const BlockScoresArgs&);
void block_scores_portable(const BlockScoresArgs&);
void block_scores_reference(const BlockScoresArgs&);
void nm_mask_avx512(const NmMaskArgs&);
void nm_mask_avx2(const NmMaskArgs&);
void nm_mask_neon(const NmMaskArgs&);
void nm_mask_portable(const NmMaskArgs&);
void nm_mask_reference(const NmMaskArgs&);

KernelTable<ScoreBinsArgs> score_bins_table() {
  static constexpr KernelRow<ScoreBinsArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, score_bins_avx512},
      {"avx2", Isa::avx2, score_bins_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, score_bins_neon},
#endif
      {"portable", Isa::portable, score_bins_portable},
      {"reference", Isa::portable, score_bins_reference},
  };
  return rows;
}

KernelTable<ApplyMaskArgs> apply_mask_table() {
  static constexpr KernelRow<ApplyMaskArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, apply_mask_avx512},
      {"avx2", Isa::avx2, apply_mask_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, apply_mask_neon},
#endif
      {"portable", Isa::portable, apply_mask_portable},
      {"reference", Isa::portable, apply_mask_reference},
  };
  return rows;
}

KernelTable<BlockScoresArgs> block_scores_table() {
  static constexpr KernelRow<BlockScoresArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, block_scores_avx512},
      {"avx2", Isa::avx2, block_scores_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, block_scores_neon},
#endif
      {"portable", Isa::portable, block_scores_portable},
      {"reference", Isa::portable, block_scores_reference},
  };
  return rows;
}

KernelTable<NmMaskArgs> nm_mask_table() {
  static constexpr KernelRow<NmMaskArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, nm_mask_avx512},
      {"avx2", Isa::avx2, nm_mask_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, nm_mask_neon},
#endif
      {"portable", Isa::portable, nm_mask_portable},
      {"reference", Isa::portable, nm_mask_reference},
  };
  return rows;
}

}  // namespace taille
