#include "runtime/heads.h"

#include <algorithm>

#include "runtime/broadcast.h"

namespace taille {

namespace {

Dims rank4(const Dims& d) {
  if (d.size() == 4) return d;
  if (d.size() < 4) {
    Dims full(4 - d.size(), 1);
    full.insert(full.end(), d.begin(), d.end());
    return full;
  }
  return {product(std::span(d).first(d.size() - 3)), d[d.size() - 3], d[d.size() - 2], d[d.size() - 1]};
}

HeadLayout layout_of(const Dims& d, bool heads_last) {
  const int64_t dim = d[3];
  if (heads_last) return {d[1] * d[2] * dim, dim, d[2] * dim};
  return {d[1] * d[2] * dim, d[2] * dim, dim};
}

}  // namespace

double Heads::macs() const {
  return static_cast<double>(batch * heads * queries) * static_cast<double>(keys * (dim + value_dim));
}

Heads heads_of(const NodeShapes& shapes, bool heads_last) {
  const Dims q = rank4(shapes.inputs[0]), k = rank4(shapes.inputs[1]), v = rank4(shapes.inputs[2]);
  const size_t seq = heads_last ? 1 : 2, head = heads_last ? 2 : 1;
  Heads p{};
  p.batch = q[0];
  p.heads = q[head];
  p.queries = q[seq];
  p.keys = k[seq];
  p.dim = q[3];
  p.value_dim = v[3];
  p.q = layout_of(q, heads_last);
  p.k = layout_of(k, heads_last);
  p.v = layout_of(v, heads_last);
  p.out = layout_of(rank4(shapes.output), heads_last);
  if (shapes.inputs.size() > 3 && !shapes.inputs[3].empty())
    p.mask = broadcast_strides(rank4(shapes.inputs[3]), {p.batch, p.heads, p.queries, p.keys});
  return p;
}

int64_t query_block(const Heads& heads, int parts) {
  const int64_t count = std::max<int64_t>(1, heads.batch * heads.heads);
  const int64_t pieces = count >= 2 * parts ? 1 : 2 * parts;
  return std::max<int64_t>(16, round_up((heads.queries + pieces - 1) / pieces, 16));
}

}  // namespace taille
