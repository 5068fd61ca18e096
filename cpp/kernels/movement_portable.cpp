// copy: dimensions that are one run of memory on both sides are merged, and then the two innermost loops are
//   - a memcpy where both strides of the last dimension are 1,
//   - a transpose by square blocks (in registers, at levels that bring theirs) where one side is contiguous in another
//   dimension (NCHW <-> NHWC),
//   - else a plain strided loop.
#include <algorithm>
#include <cstring>

#include "kernels/movement.h"
#include "kernels/movement_transpose.h"

namespace taille {
namespace {

constexpr int64_t kTransposeBlock = 32;  // elements; 32 lines of both sides stay in L1

struct Dimension {
  int64_t size, in, out;  // strides in elements
};

using Transpose = bool (*)(const TransposeArgs&);

struct Layout {
  Dimension dims[kMaxRank];
  int rank = 0;
  bool empty = false;
  Transpose transpose = nullptr;  // of this element size, or null
};

// Without dimensions of size 1, neighbours merged where the inner one continues into the outer one.
Layout merged(const CopyArgs& g) {
  Layout layout;
  for (int d = 0; d < g.rank; ++d) {
    const Dimension dim{g.dims[d], g.in_strides[d], g.out_strides[d]};
    layout.empty |= dim.size == 0;
    if (dim.size == 1) continue;
    Dimension* outer = layout.rank > 0 ? &layout.dims[layout.rank - 1] : nullptr;
    if (outer && outer->in == dim.in * dim.size && outer->out == dim.out * dim.size)
      *outer = {outer->size * dim.size, dim.in, dim.out};
    else
      layout.dims[layout.rank++] = dim;
  }
  return layout;
}

// Where the last dimension is not contiguous on both sides: one that is so on one side goes next to it.
void bring_transpose_inside(Layout& layout) {
  if (layout.rank < 2) return;
  Dimension* last = &layout.dims[layout.rank - 1];
  if (last->in == 1 && last->out == 1) return;
  Dimension* other = std::find_if(layout.dims, last, [](const Dimension& d) { return d.in == 1 || d.out == 1; });
  if (other != last) std::rotate(other, other + 1, last);
}

template <class T>
void transpose(const Layout& layout, const T* in, T* out, const Dimension& rows, const Dimension& columns) {
  if (layout.transpose) {
    if (columns.in == 1 && rows.out == 1 && layout.transpose({in, out, rows.size, columns.size, rows.in, columns.out}))
      return;
    if (rows.in == 1 && columns.out == 1 && layout.transpose({in, out, columns.size, rows.size, columns.in, rows.out}))
      return;
  }
  for (int64_t r0 = 0; r0 < rows.size; r0 += kTransposeBlock) {
    const int64_t r1 = std::min(rows.size, r0 + kTransposeBlock);
    for (int64_t c0 = 0; c0 < columns.size; c0 += kTransposeBlock) {
      const int64_t c1 = std::min(columns.size, c0 + kTransposeBlock);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) out[r * rows.out + c * columns.out] = in[r * rows.in + c * columns.in];
    }
  }
}

template <class T>
void copy_run(const T* in, T* out, const Dimension& d) {
  if (d.in == 1 && d.out == 1) {
    std::memcpy(out, in, static_cast<size_t>(d.size) * sizeof(T));
  } else if (d.in == 0 && d.out == 1) {
    std::fill_n(out, d.size, *in);
  } else {
    for (int64_t i = 0; i < d.size; ++i) out[i * d.out] = in[i * d.in];
  }
}

template <class T>
void copy_dimensions(const Layout& layout, int d, const T* in, T* out) {
  const Dimension& dim = layout.dims[d];
  const int left = layout.rank - d;
  if (left <= 0) {
    *out = *in;
  } else if (left == 1) {
    copy_run(in, out, dim);
  } else if (left == 2 && (dim.in == 1 || dim.out == 1)) {
    transpose(layout, in, out, dim, layout.dims[d + 1]);
  } else {
    for (int64_t i = 0; i < dim.size; ++i) copy_dimensions(layout, d + 1, in + i * dim.in, out + i * dim.out);
  }
}

template <class T>
void copy_elements(const CopyArgs& g, const Layout& layout) {
  copy_dimensions(layout, 0, static_cast<const T*>(g.in), static_cast<T*>(g.out));
}

}  // namespace

void copy_portable(const CopyArgs& g) { copy_with(g, {nullptr, nullptr}); }

void copy_with(const CopyArgs& g, const Transposes& transposes) {
  Layout layout = merged(g);
  if (layout.empty) return;
  bring_transpose_inside(layout);
  layout.transpose = g.element_size == 1 ? transposes.bytes1 : g.element_size == 4 ? transposes.bytes4 : nullptr;
  if (g.element_size == 1)
    copy_elements<uint8_t>(g, layout);
  else if (g.element_size == 4)
    copy_elements<uint32_t>(g, layout);
  else
    copy_elements<uint64_t>(g, layout);
}

void embedding_portable(const EmbeddingArgs& g) {
  *g.bad_index = -1;
  const auto bytes = static_cast<size_t>(g.row_bytes);
  auto* out = static_cast<uint8_t*>(g.out);
  for (int64_t i = 0; i < g.count; ++i, out += bytes) {
    const int64_t id = g.ids[i];
    if (id < 0 || id >= g.rows) {
      *g.bad_index = i;
      return;
    }
    std::memcpy(out, static_cast<const uint8_t*>(g.table) + id * g.row_bytes, bytes);
  }
}

}  // namespace taille
