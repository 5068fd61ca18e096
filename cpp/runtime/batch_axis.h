// Whether requests of a model may be put together: dimension 0 of each input and output, and no other, is the same
// symbol, and what sample i gives depends on sample i alone. The last is proved from the graph, op by op; where it is
// not known of an op, the answer is no.
#pragma once

#include <string>

#include "graph/graph.h"

namespace taille {

// Why requests cannot be put together ("output 'y' mixes samples (softmax 'attention')"); empty where they can.
std::string why_not_batched(const Graph& graph);

}  // namespace taille
