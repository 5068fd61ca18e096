#include "kernels/depthwise.h"

namespace taille {

void depthwise_f32_avx512(const DepthwiseF32Args&);
void depthwise_f32_avx2(const DepthwiseF32Args&);
void depthwise_f32_neon(const DepthwiseF32Args&);
void depthwise_f32_portable(const DepthwiseF32Args&);
void depthwise_f32_reference(const DepthwiseF32Args&);

KernelTable<DepthwiseF32Args> depthwise_f32_table() {
  static constexpr KernelRow<DepthwiseF32Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, depthwise_f32_avx512},
      {"avx2", Isa::avx2, depthwise_f32_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, depthwise_f32_neon},
#endif
      {"portable", Isa::portable, depthwise_f32_portable},
      {"reference", Isa::portable, depthwise_f32_reference},
  };
  return rows;
}

}  // namespace taille
