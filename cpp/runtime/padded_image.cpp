#include "runtime/padded_image.h"

#include <algorithm>
#include <cstring>

namespace taille {

namespace {

// One row of a padded image.
void pad_row(const PaddedImage& p, const uint8_t* image, int64_t row, uint8_t pad, uint8_t* out) {
  const int64_t y = row - p.top;
  if (y < 0 || y >= p.height) {
    std::memset(out, pad, static_cast<size_t>(p.row_bytes()));
    return;
  }
  const int64_t left = std::min(p.left, p.padded_width);
  const int64_t inside = std::max<int64_t>(0, std::min(p.width, p.padded_width - left));
  const int64_t right = p.padded_width - left - inside;
  std::memset(out, pad, static_cast<size_t>(left * p.channels));
  std::memcpy(out + left * p.channels, image + y * p.width * p.channels, static_cast<size_t>(inside * p.channels));
  std::memset(out + (left + inside) * p.channels, pad, static_cast<size_t>(right * p.channels));
}

}  // namespace

PaddedImage padded_image(const Window& w, const Dims& in, const Dims& out) {
  return {in[1],
          in[2],
          in[3],
          (out[1] - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1,
          (out[2] - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1,
          w.pad_top,
          w.pad_left};
}

void pad_rows(const PaddedImage& p, const uint8_t* images, int64_t begin, int64_t end, uint8_t pad, uint8_t* out) {
  for (int64_t i = begin; i < end; ++i)
    pad_row(p, images + i / p.padded_height * p.input_bytes(), i % p.padded_height, pad, out + i * p.row_bytes());
}

}  // namespace taille
