#include "kernels/conv_s8.h"

namespace taille {

void conv_s8_amx(const ConvS8Args&);
void gemm_s8_portable(const GemmS8Args&);
void gemm_s8_reference(const GemmS8Args&);

namespace {

constexpr int64_t kStep = 64;      // bytes of K in one of AMX's tiles
constexpr int64_t kTileRows = 16;  // pixels

// A product of one row for each pixel.
void each_pixel(const ConvS8Args& g, void (*gemm)(const GemmS8Args&)) {
  const int64_t element = g.product.out_f32 ? 4 : 1;
  int32_t offsets[kMaxConvTaps];
  for (int64_t t = 0; t < g.product.taps; ++t) offsets[t] = static_cast<int32_t>(t * g.tap_stride);
  for (int64_t y = g.product.m_begin; y < g.product.m_end; ++y)
    for (int64_t x = 0; x < g.width; ++x) {
      GemmS8Args one = g.product;
      const int64_t row = y * g.width + x;
      one.a += y * g.row_stride + x * g.product.lda;
      one.offsets = offsets;
      one.m_begin = 0;
      one.m_end = 1;
      one.out = static_cast<uint8_t*>(one.out) + row * one.ldc * element;
      if (one.residual) one.residual = static_cast<const uint8_t*>(one.residual) + row * one.residual_stride * element;
      gemm(one);
    }
}

}  // namespace

int64_t conv_s8_tap_bytes(int64_t bytes) {
  const int64_t steps = (bytes + kStep - 1) / kStep;
  return steps * (((bytes + steps - 1) / steps + 3) / 4 * 4);
}

int64_t conv_s8_scratch_bytes(int64_t depth) { return gemm_s8_scratch_bytes(depth); }

int64_t conv_s8_image_bytes(const ConvS8Args& g) {
  const int64_t last = g.product.m_end * g.row_stride + (kTileRows - 1) * g.product.lda;
  return last + (g.product.taps - 1) * g.tap_stride + g.product.k;
}

void conv_s8_portable(const ConvS8Args& g) { each_pixel(g, gemm_s8_portable); }
void conv_s8_reference(const ConvS8Args& g) { each_pixel(g, gemm_s8_reference); }

KernelTable<ConvS8Args> conv_s8_table() {
  static constexpr KernelRow<ConvS8Args> rows[] = {
#if defined(__x86_64__)
      {"amx", Isa::amx, conv_s8_amx},
#endif
      {"portable", Isa::portable, conv_s8_portable},
      {"reference", Isa::portable, conv_s8_reference},
  };
  return rows;
}

}  // namespace taille
