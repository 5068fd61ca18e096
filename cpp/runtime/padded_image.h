// Images with their padding in memory, for convolutions that read whole filter rows.
#pragma once

#include "runtime/window.h"

namespace taille {

// NHWC bytes: what the windows reach and no more.
struct PaddedImage {
  int64_t height, width, channels;  // of the input
  int64_t padded_height, padded_width;
  int64_t top, left;

  int64_t row_bytes() const { return padded_width * channels; }
  int64_t bytes() const { return padded_height * row_bytes(); }
  int64_t input_bytes() const { return height * width * channels; }
};

PaddedImage padded_image(const Window& w, const Dims& in, const Dims& out);

// Copies rows begin .. end-1 of all padded images, counted through, with `pad` around them.
void pad_rows(const PaddedImage& p, const uint8_t* images, int64_t begin, int64_t end, uint8_t pad, uint8_t* out);

}  // namespace taille
