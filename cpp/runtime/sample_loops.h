// Which layers take a batch one sample at a time. A batch's activations may leave L2 between one layer and the next
// where a sample's would stay; the price is that weights are read again for every sample. So it pays at the front of a
// convolutional network (ResNet-50 at 56 x 56 pixels: 1 MB of activations a sample, 16 KB of weights), and not for
// layers whose weights are the larger part.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace taille {

struct SampleLoop {
  size_t first, last;  // nodes first .. last-1
  int64_t samples;
};

// dims: of every value. Loops do not overlap, and are in order.
std::vector<SampleLoop> find_sample_loops(const Graph& graph, const std::vector<std::vector<int64_t>>& dims);

}  // namespace taille
