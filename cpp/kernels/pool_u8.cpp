#include "kernels/pool.h"

namespace taille {

void pool_max_u8_avx512(const PoolU8Args&);
void pool_max_u8_avx2(const PoolU8Args&);
void pool_max_u8_neon(const PoolU8Args&);
void pool_max_u8_portable(const PoolU8Args&);
void pool_max_u8_reference(const PoolU8Args&);
void pool_avg_u8_avx512(const PoolU8Args&);
void pool_avg_u8_avx2(const PoolU8Args&);
void pool_avg_u8_neon(const PoolU8Args&);
void pool_avg_u8_portable(const PoolU8Args&);
void pool_avg_u8_reference(const PoolU8Args&);

KernelTable<PoolU8Args> pool_max_u8_table() {
  static constexpr KernelRow<PoolU8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pool_max_u8_avx512},
      {"avx2", Isa::avx2, pool_max_u8_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pool_max_u8_neon},
#endif
      {"portable", Isa::portable, pool_max_u8_portable},
      {"reference", Isa::portable, pool_max_u8_reference},
  };
  return rows;
}

KernelTable<PoolU8Args> pool_avg_u8_table() {
  static constexpr KernelRow<PoolU8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, pool_avg_u8_avx512},
      {"avx2", Isa::avx2, pool_avg_u8_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, pool_avg_u8_neon},
#endif
      {"portable", Isa::portable, pool_avg_u8_portable},
      {"reference", Isa::portable, pool_avg_u8_reference},
  };
  return rows;
}

}  // namespace taille
