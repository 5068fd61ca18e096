#include "kernels/attention_s8.h"

namespace taille {

void pack_keys_avx512(const PackKeysArgs&);
void pack_keys_avx2(const PackKeysArgs&);
void pack_keys_neon(const PackKeysArgs&);
void pack_keys_portable(const PackKeysArgs&);
void pack_keys_reference(const PackKeysArgs&);
void pack_values_avx512(const PackValuesArgs&);
void pack_values_avx2(const PackValuesArgs&);
void pack_values_neon(const PackValuesArgs&);
void pack_values_portable(const PackValuesArgs&);
void pack_values_reference(const PackValuesArgs&);
void softmax_u8_avx512(const SoftmaxU8Args&);
void softmax_u8_avx2(const SoftmaxU8Args&);
void softmax_u8_neon(const SoftmaxU8Args&);
void softmax_u8_portable(const SoftmaxU8Args&);
void softmax_u8_reference(const SoftmaxU8Args&);
void scale_rows_avx512(const ScaleRowsArgs&);
void scale_rows_avx2(const ScaleRowsArgs&);
void scale_rows_neon(const ScaleRowsArgs&);
void scale_rows_portable(const ScaleRowsArgs&);
void scale_rows_reference(const ScaleRowsArgs&);

KernelTable<PackKeysArgs> pack_keys_table() {
  static constexpr KernelRow<PackKeysArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pack_keys_avx512},
      {"avx2", Isa::avx2, pack_keys_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pack_keys_neon},
#endif
      {"portable", Isa::portable, pack_keys_portable},
      {"reference", Isa::portable, pack_keys_reference},
  };
  return rows;
}

KernelTable<PackValuesArgs> pack_values_table() {
  static constexpr KernelRow<PackValuesArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pack_values_avx512},
      {"avx2", Isa::avx2, pack_values_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pack_values_neon},
#endif
      {"portable", Isa::portable, pack_values_portable},
      {"reference", Isa::portable, pack_values_reference},
  };
  return rows;
}

KernelTable<SoftmaxU8Args> softmax_u8_table() {
  static constexpr KernelRow<SoftmaxU8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, softmax_u8_avx512},
      {"avx2", Isa::avx2, softmax_u8_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, softmax_u8_neon},
#endif
      {"portable", Isa::portable, softmax_u8_portable},
      {"reference", Isa::portable, softmax_u8_reference},
  };
  return rows;
}

KernelTable<ScaleRowsArgs> scale_rows_table() {
  static constexpr KernelRow<ScaleRowsArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, scale_rows_avx512},
      {"avx2", Isa::avx2, scale_rows_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, scale_rows_neon},
#endif
      {"portable", Isa::portable, scale_rows_portable},
      {"reference", Isa::portable, scale_rows_reference},
  };
  return rows;
}

}  // namespace taille
