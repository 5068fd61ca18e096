#include "kernels/attention.h"

namespace taille {

void attention_avx512(const AttentionArgs&);
void attention_avx2(const AttentionArgs&);
void attention_neon(const AttentionArgs&);
void attention_portable(const AttentionArgs&);
void attention_reference(const AttentionArgs&);

int64_t attention_scratch_floats(int64_t keys, int64_t dim, int64_t value_dim) {
  const int64_t padded_keys = (keys + 15) / 16 * 16;
  const int64_t packed_values = value_dim % 16 == 0 ? 0 : keys * ((value_dim + 15) / 16 * 16);
  return padded_keys * dim + packed_values + kAttentionBlock * padded_keys;
}

KernelTable<AttentionArgs> attention_table() {
  static constexpr KernelRow<AttentionArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, attention_avx512},
      {"avx2", Isa::avx2, attention_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, attention_neon},
#endif
      {"portable", Isa::portable, attention_portable},
      {"reference", Isa::portable, attention_reference},
  };
  return rows;
}

}  // namespace taille
