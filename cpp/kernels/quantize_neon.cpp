#include "kernels/neon_s8.h"
#include "kernels/quantize_tiles.h"

namespace taille {

void quantize_neon(const QuantizeArgs& g) { quantize_run(g); }
void dequantize_neon(const DequantizeArgs& g) { dequantize_run(g); }
void add_u8_neon(const AddU8Args& g) { add_u8_run(g); }
void observe_neon(const ObserveArgs& g) { observe_run(g); }

}  // namespace taille
