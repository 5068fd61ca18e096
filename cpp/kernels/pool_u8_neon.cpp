#include "kernels/neon_s8.h"
#include "kernels/pool_u8_tiles.h"

namespace taille {

void pool_max_u8_neon(const PoolU8Args& g) { pool_max_u8_run(g); }
void pool_avg_u8_neon(const PoolU8Args& g) { pool_avg_u8_run(g); }

}  // namespace taille
