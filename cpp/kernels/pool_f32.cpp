#include "kernels/pool.h"

namespace taille {

void pool_max_f32_avx512(const PoolF32Args&);
void pool_max_f32_avx2(const PoolF32Args&);
void pool_max_f32_neon(const PoolF32Args&);
void pool_max_f32_portable(const PoolF32Args&);
void pool_max_f32_reference(const PoolF32Args&);
void pool_avg_f32_avx512(const PoolF32Args&);
void pool_avg_f32_avx2(const PoolF32Args&);
void pool_avg_f32_neon(const PoolF32Args&);
void pool_avg_f32_portable(const PoolF32Args&);
void pool_avg_f32_reference(const PoolF32Args&);

KernelTable<PoolF32Args> pool_max_f32_table() {
  static constexpr KernelRow<PoolF32Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pool_max_f32_avx512},
      {"avx2", Isa::avx2, pool_max_f32_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pool_max_f32_neon},
#endif
      {"portable", Isa::portable, pool_max_f32_portable},
      {"reference", Isa::portable, pool_max_f32_reference},
  };
  return rows;
}

KernelTable<PoolF32Args> pool_avg_f32_table() {
  static constexpr KernelRow<PoolF32Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pool_avg_f32_avx512},
      {"avx2", Isa::avx2, pool_avg_f32_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pool_avg_f32_neon},
#endif
      {"portable", Isa::portable, pool_avg_f32_portable},
      {"reference", Isa::portable, pool_avg_f32_reference},
  };
  return rows;
}

}  // namespace taille
