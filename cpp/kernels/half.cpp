#include "kernels/half.h"

namespace taille {

void widen_avx512(const WidenArgs&);
void widen_avx2(const WidenArgs&);
void widen_neon(const WidenArgs&);
void widen_portable(const WidenArgs&);
void widen_reference(const WidenArgs&);
void narrow_avx512(const NarrowArgs&);
void narrow_avx2(const NarrowArgs&);
void narrow_neon(const NarrowArgs&);
void narrow_portable(const NarrowArgs&);
void narrow_reference(const NarrowArgs&);

KernelTable<WidenArgs> widen_table() {
  static constexpr KernelRow<WidenArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, widen_avx512},
      {"avx2", Isa::avx2, widen_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, widen_neon},
#endif
      {"portable", Isa::portable, widen_portable},
      {"reference", Isa::portable, widen_reference},
  };
  return rows;
}

KernelTable<NarrowArgs> narrow_table() {
  static constexpr KernelRow<NarrowArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, narrow_avx512},
      {"avx2", Isa::avx2, narrow_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, narrow_neon},
#endif
      {"portable", Isa::portable, narrow_portable},
      {"reference", Isa::portable, narrow_reference},
  };
  return rows;
}

}  // namespace taille
