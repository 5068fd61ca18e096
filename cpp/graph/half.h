// Weights in 16 bits: the file and the memory halve, the arithmetic stays float32 (kernels widen the weights as they
// read them), so results are those of the float32 graph with its weights rounded.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/quantize.h"

namespace taille {

// The nodes whose weights can be stored in 16 bits: linear, conv2d and embedding with float32 constants; in order.
std::vector<std::string> half_candidates(const Graph& graph);

// Of these, the nodes with a finite weight that `type`, float16 or bfloat16, can only hold as infinity.
std::vector<std::string> half_overflows(const Graph& graph, DType type);

// Stores the weights of the named nodes (all out of half_candidates) as `type`, float16 or bfloat16, to nearest even.
// A finite weight that becomes infinite is an error naming its tensor. The report gets a row per candidate.
Graph half_weights(const Graph& graph, DType type, const std::set<std::string>& nodes,
                   std::vector<QuantizeReport>* report);

}  // namespace taille
