#include "kernels/avx2_s8.h"
#include "kernels/quantize_tiles.h"

namespace taille {

void quantize_avx2(const QuantizeArgs& g) { quantize_run(g); }
void dequantize_avx2(const DequantizeArgs& g) { dequantize_run(g); }
void add_u8_avx2(const AddU8Args& g) { add_u8_run(g); }
void observe_avx2(const ObserveArgs& g) { observe_run(g); }

}  // namespace taille
