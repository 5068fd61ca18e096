#include "runtime/window.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace taille {

namespace {

void check_offsets(int64_t elements) {
  check(elements <= std::numeric_limits<int32_t>::max(), "an image of ", elements,
        " elements is too large for 32-bit offsets");
}

}  // namespace

Window window_of(const Node& node, int64_t kernel_h, int64_t kernel_w) {
  const auto& stride = node.attr<std::vector<int64_t>>("stride");
  const auto& padding = node.attr<std::vector<int64_t>>("padding");
  const auto it = node.attrs.find("dilation");
  const std::vector<int64_t> dilation =
      it == node.attrs.end() ? std::vector<int64_t>{1, 1} : std::get<std::vector<int64_t>>(it->second);
  return {kernel_h, kernel_w, stride[0], stride[1], padding[0], padding[1], dilation[0], dilation[1]};
}

ImageBlocks image_blocks(const Dims& in, const Dims& out, int64_t rows) {
  ImageBlocks b{};
  b.images = out[0];
  b.pixels_out = out[1] * out[2];
  b.image_elements = in[1] * in[2] * in[3];
  check_offsets(b.image_elements);
  const int64_t fit =
      std::max<int64_t>(1, std::numeric_limits<int32_t>::max() / std::max<int64_t>(1, b.image_elements));
  const int64_t wanted = (rows + b.pixels_out - 1) / std::max<int64_t>(1, b.pixels_out);
  b.per_block = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, std::min(b.images, fit)));
  return b;
}

std::vector<int32_t> conv_offsets(const Window& w, const Dims& in, const Dims& out, const ImageBlocks& blocks) {
  const int64_t height = in[1], width = in[2], channels = in[3];
  std::vector<int32_t> offsets;
  offsets.reserve(static_cast<size_t>(blocks.per_block * blocks.pixels_out * w.kernel_h * w.kernel_w));
  for (int64_t n = 0; n < blocks.per_block; ++n)
    for (int64_t oy = 0; oy < out[1]; ++oy)
      for (int64_t ox = 0; ox < out[2]; ++ox)
        for (int64_t ky = 0; ky < w.kernel_h; ++ky)
          for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
            const int64_t y = oy * w.stride_h - w.pad_top + ky * w.dilation_h;
            const int64_t x = ox * w.stride_w - w.pad_left + kx * w.dilation_w;
            const bool inside = y >= 0 && y < height && x >= 0 && x < width;
            offsets.push_back(inside ? static_cast<int32_t>(n * blocks.image_elements + (y * width + x) * channels)
                                     : -1);
          }
  return offsets;
}

PoolTable pool_table(const Window& w, const Dims& in, const Dims& out) {
  PoolTable t;
  t.starts.push_back(0);
  for (int64_t oy = 0; oy < out[1]; ++oy)
    for (int64_t ox = 0; ox < out[2]; ++ox) {
      for (int64_t ky = 0; ky < w.kernel_h; ++ky)
        for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
          const int64_t y = oy * w.stride_h - w.pad_top + ky * w.dilation_h;
          const int64_t x = ox * w.stride_w - w.pad_left + kx * w.dilation_w;
          if (y >= 0 && y < in[1] && x >= 0 && x < in[2])
            t.offsets.push_back(static_cast<int32_t>((y * in[2] + x) * in[3]));
        }
      check(t.offsets.size() > static_cast<size_t>(t.starts.back()), "a pooling window lies wholly in the padding");
      t.starts.push_back(static_cast<int32_t>(t.offsets.size()));
    }
  return t;
}

PoolTable adaptive_table(const Dims& in, const Dims& out) {
  PoolTable t;
  t.starts.push_back(0);
  for (int64_t oy = 0; oy < out[1]; ++oy)
    for (int64_t ox = 0; ox < out[2]; ++ox) {
      const int64_t y1 = ((oy + 1) * in[1] + out[1] - 1) / out[1], x1 = ((ox + 1) * in[2] + out[2] - 1) / out[2];
      for (int64_t y = oy * in[1] / out[1]; y < y1; ++y)
        for (int64_t x = ox * in[2] / out[2]; x < x1; ++x)
          t.offsets.push_back(static_cast<int32_t>((y * in[2] + x) * in[3]));
      check(t.offsets.size() > static_cast<size_t>(t.starts.back()), "adaptive pooling of an empty image");
      t.starts.push_back(static_cast<int32_t>(t.offsets.size()));
    }
  return t;
}

}  // namespace taille
