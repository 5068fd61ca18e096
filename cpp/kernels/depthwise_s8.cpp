#include <cmath>
#include <cstring>

#include "kernels/depthwise.h"
#include "kernels/depthwise_s8_layout.h"

namespace taille {

void depthwise_s8_avx512vnni(const DepthwiseS8Args&);
void depthwise_s8_avx512(const DepthwiseS8Args&);
void depthwise_s8_avx2(const DepthwiseS8Args&);
void depthwise_s8_neondot(const DepthwiseS8Args&);
void depthwise_s8_portable(const DepthwiseS8Args&);
void depthwise_s8_reference(const DepthwiseS8Args&);

KernelTable<DepthwiseS8Args> depthwise_s8_table() {
  static constexpr KernelRow<DepthwiseS8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512vnni", Isa::avx512vnni, depthwise_s8_avx512vnni},
      {"avx512", Isa::avx512, depthwise_s8_avx512},
      {"avx2", Isa::avx2, depthwise_s8_avx2},
#elif defined(__aarch64__)
      {"neondot", Isa::neondot, depthwise_s8_neondot},
#endif
      {"portable", Isa::portable, depthwise_s8_portable},
      {"reference", Isa::portable, depthwise_s8_reference},
  };
  return rows;
}

bool depthwise_s8_pack(const DepthwiseS8Args& g, uint8_t* packed) {
  const DepthwiseWindow& window = g.window;
  const int64_t together = depthwise_s8_rows_together(window), sets = depthwise_s8_row_sets(window);
  std::memset(packed, 0, static_cast<size_t>(depthwise_s8_packed_bytes(window, g.channels)));
  for (int64_t block = 0; block < g.channels; block += 64, packed += depthwise_s8_block_bytes(window)) {
    const int64_t width = depthwise_s8_block_width(g.channels - block);
    uint8_t* const vectors = packed + depthwise_s8_block_bytes(window) - 3 * 256;
    for (int64_t place = 0; place < 64; ++place) {
      const int64_t q = place / 16, l = place / 4 % 4, i = place % 4;
      const int64_t c = block + 16 * l % width + 4 * q + i;
      if (c >= g.channels) continue;
      for (int64_t kx = 0; kx < window.kernel_w; ++kx)
        for (int64_t r = 0; r < together; ++r)
          for (int64_t ky = 0; ky < window.kernel_h; ++ky) {
            const int64_t row = ky + r * window.stride_h;
            packed[((kx * sets + row / 4) * together + r) * 256 + place * 4 + row % 4] =
                static_cast<uint8_t>(g.w[(ky * window.kernel_w + kx) * g.channels + c]);
          }
      std::memcpy(vectors + place * 4, g.offset + c, 4);
      std::memcpy(vectors + 256 + place * 4, g.scale + c, 4);
      std::memcpy(vectors + 512 + place * 4, g.bias + c, 4);
    }
  }
  bool bounded = true;
  const double most = 255.0 * 128.0 * static_cast<double>(window.kernel_h * window.kernel_w);
  for (int64_t c = 0; c < g.channels; ++c) {
    const double sum = most + std::abs(static_cast<double>(g.offset[c]));
    bounded &= sum * std::abs(static_cast<double>(g.scale[c])) + std::abs(static_cast<double>(g.bias[c])) < 0x1p30;
  }
  return bounded;
}

int64_t depthwise_s8_scratch_bytes(const DepthwiseWindow& w) {
  if (!depthwise_s8_fits(w)) return 0;
  constexpr int64_t kVector = 64, kHalves = 2;  // the widest level, the most parts of a vector
  const int64_t sets = depthwise_s8_row_sets(w);
  const int64_t weights = w.kernel_w * sets * depthwise_s8_rows_together(w) * 4 * kHalves * kVector;
  const int64_t planes = w.stride_w * sets * 4 * kHalves * kDepthwisePositions * kVector;
  return weights + planes + 4 * kVector;
}

}  // namespace taille
