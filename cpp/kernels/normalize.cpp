#include "kernels/normalize.h"

namespace taille {

void softmax_avx512(const SoftmaxArgs&);
void softmax_avx2(const SoftmaxArgs&);
void softmax_neon(const SoftmaxArgs&);
void softmax_portable(const SoftmaxArgs&);
void softmax_reference(const SoftmaxArgs&);
void layer_norm_avx512(const NormArgs&);
void layer_norm_avx2(const NormArgs&);
void layer_norm_neon(const NormArgs&);
void layer_norm_portable(const NormArgs&);
void layer_norm_reference(const NormArgs&);
void rms_norm_avx512(const NormArgs&);
void rms_norm_avx2(const NormArgs&);
void rms_norm_neon(const NormArgs&);
void rms_norm_portable(const NormArgs&);
void rms_norm_reference(const NormArgs&);
void mean_rows_avx512(const MeanRowsArgs&);
void mean_rows_avx2(const MeanRowsArgs&);
void mean_rows_neon(const MeanRowsArgs&);
void mean_rows_portable(const MeanRowsArgs&);
void mean_rows_reference(const MeanRowsArgs&);
void mean_last_avx512(const MeanLastArgs&);
void mean_last_avx2(const MeanLastArgs&);
void mean_last_neon(const MeanLastArgs&);
void mean_last_portable(const MeanLastArgs&);
void mean_last_reference(const MeanLastArgs&);

KernelTable<SoftmaxArgs> softmax_table() {
  static constexpr KernelRow<SoftmaxArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, softmax_avx512},
      {"avx2", Isa::avx2, softmax_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, softmax_neon},
#endif
      {"portable", Isa::portable, softmax_portable},
      {"reference", Isa::portable, softmax_reference},
  };
  return rows;
}

KernelTable<NormArgs> layer_norm_table() {
  static constexpr KernelRow<NormArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, layer_norm_avx512},
      {"avx2", Isa::avx2, layer_norm_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, layer_norm_neon},
#endif
      {"portable", Isa::portable, layer_norm_portable},
      {"reference", Isa::portable, layer_norm_reference},
  };
  return rows;
}

KernelTable<NormArgs> rms_norm_table() {
  static constexpr KernelRow<NormArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, rms_norm_avx512},
      {"avx2", Isa::avx2, rms_norm_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, rms_norm_neon},
#endif
      {"portable", Isa::portable, rms_norm_portable},
      {"reference", Isa::portable, rms_norm_reference},
  };
  return rows;
}

KernelTable<MeanRowsArgs> mean_rows_table() {
  static constexpr KernelRow<MeanRowsArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, mean_rows_avx512},
      {"avx2", Isa::avx2, mean_rows_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, mean_rows_neon},
#endif
      {"portable", Isa::portable, mean_rows_portable},
      {"reference", Isa::portable, mean_rows_reference},
  };
  return rows;
}

KernelTable<MeanLastArgs> mean_last_table() {
  static constexpr KernelRow<MeanLastArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, mean_last_avx512},
      {"avx2", Isa::avx2, mean_last_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, mean_last_neon},
#endif
      {"portable", Isa::portable, mean_last_portable},
      {"reference", Isa::portable, mean_last_reference},
  };
  return rows;
}

}  // namespace taille
