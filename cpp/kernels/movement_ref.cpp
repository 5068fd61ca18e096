#include <algorithm>

#include "kernels/movement.h"

namespace taille {
namespace {

void copy_dimension(const CopyArgs& g, int d, const uint8_t* in, uint8_t* out) {
  if (d == g.rank) {
    std::copy_n(in, g.element_size, out);
    return;
  }
  for (int64_t i = 0; i < g.dims[d]; ++i)
    copy_dimension(g, d + 1, in + i * g.in_strides[d] * g.element_size, out + i * g.out_strides[d] * g.element_size);
}

}  // namespace

void copy_reference(const CopyArgs& g) {
  copy_dimension(g, 0, static_cast<const uint8_t*>(g.in), static_cast<uint8_t*>(g.out));
}

void embedding_reference(const EmbeddingArgs& g) {
  *g.bad_index = -1;
  for (int64_t i = 0; i < g.count; ++i) {
    if (g.ids[i] < 0 || g.ids[i] >= g.rows) {
      *g.bad_index = i;
      return;
    }
    for (int64_t b = 0; b < g.row_bytes; ++b)
      static_cast<uint8_t*>(g.out)[i * g.row_bytes + b] =
          static_cast<const uint8_t*>(g.table)[g.ids[i] * g.row_bytes + b];
  }
}

void embedding_s8_reference(const EmbeddingS8Args& g) {
  *g.bad_index = -1;
  for (int64_t i = 0; i < g.count; ++i) {
    const int64_t id = g.ids[i];
    if (id < 0 || id >= g.rows) {
      *g.bad_index = i;
      return;
    }
    const int8_t* row = g.table + id * g.width;
    const float scale = g.scale[id];
    for (int64_t c = 0; c < g.width; ++c) g.out[i * g.width + c] = static_cast<float>(row[c]) * scale;
  }
}

}  // namespace taille
