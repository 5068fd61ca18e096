#include "kernels/avx512_s8.h"
#include "kernels/quantize_tiles.h"

namespace taille {

void quantize_avx512(const QuantizeArgs& g) { quantize_run(g); }
void dequantize_avx512(const DequantizeArgs& g) { dequantize_run(g); }
void add_u8_avx512(const AddU8Args& g) { add_u8_run(g); }
void observe_avx512(const ObserveArgs& g) { observe_run(g); }

}  // namespace taille
