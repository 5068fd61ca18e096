#include "kernels/depthwise.h"

namespace taille {

void depthwise_s8_avx512vnni(const DepthwiseS8Args&);
void depthwise_s8_avx512(const DepthwiseS8Args&);
void depthwise_s8_avx2(const DepthwiseS8Args&);
void depthwise_s8_portable(const DepthwiseS8Args&);
void depthwise_s8_reference(const DepthwiseS8Args&);

KernelTable<DepthwiseS8Args> depthwise_s8_table() {
  static constexpr KernelRow<DepthwiseS8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512vnni", Isa::avx512vnni, depthwise_s8_avx512vnni},
      {"avx512", Isa::avx512, depthwise_s8_avx512},
      {"avx2", Isa::avx2, depthwise_s8_avx2},
#endif
      {"portable", Isa::portable, depthwise_s8_portable},
      {"reference", Isa::portable, depthwise_s8_reference},
  };
  return rows;
}

}  // namespace taille
