#include "kernels/vec16_neon.h"
// The vocabulary comes first.
#include "kernels/pool_f32_impl.h"

namespace taille {

void pool_max_f32_neon(const PoolF32Args& g) { pool_run<PoolMax>(g); }
void pool_avg_f32_neon(const PoolF32Args& g) { pool_run<PoolAvg>(g); }

}  // namespace taille
