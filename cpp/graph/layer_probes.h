// What quantising a layer does to that layer alone: beside each layer (attention included) of the float32 graph that is
// int8 in the quantised one stands its int8 twin, on the same exact input, and the difference of the two, before
// residual and clamp. One run of this graph shows the error of every layer, none of it inherited from another.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace taille {

struct LayerProbe {
  std::string layer;
  size_t exact, error;  // indices of nodes: the float32 output, and int8 minus float32; channels last
  bool has_bias;        // or could have one: not attention
};

struct ProbedGraph {
  Graph graph;
  std::vector<LayerProbe> probes;
};

// `exact` is the optimised float32 graph that `quantized` was made from.
ProbedGraph probe_layers(const Graph& exact, const Graph& quantized);

}  // namespace taille
