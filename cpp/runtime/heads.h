// Where the heads of attention's tensors lie.
#pragma once

#include "runtime/operator.h"

namespace taille {

// Where head (n, h) of a [N,H,S,D] or [N,S,H,D] tensor starts and how far apart its rows are, in elements.
struct HeadLayout {
  int64_t batch, head, row;
  int64_t at(int64_t n, int64_t h) const { return n * batch + h * head; }
};

struct Heads {
  int64_t batch, heads, queries, keys, dim, value_dim;
  HeadLayout q, k, v, out;
  Dims mask;  // strides over [N, H, S, T]; empty where there is none

  int64_t mask_at(int64_t n, int64_t h) const { return n * mask[0] + h * mask[1]; }
  double macs() const;  // of both products
};

// Inputs q, k, v, mask? of any rank: leading dimensions are merged into N, missing ones are 1.
Heads heads_of(const NodeShapes& shapes, bool heads_last);

// Query rows that one thread does at a time: whole heads where there are enough of them, as keys are packed once per
// block.
int64_t query_block(const Heads& heads, int parts);

}  // namespace taille
