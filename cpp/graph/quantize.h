// From a float32 graph (optimised) to one whose linear layers, convolutions and attention run in int8, from calibrated
// ranges.
//   activations  uint8, asymmetric:  scale = (hi - lo) / 255, zero_point = round(-lo / scale), zero always exact
//   weights      int8, symmetric, one scale per output channel: quantize_weight.h
//   tables       of embeddings: int8, symmetric, one scale per row
// Between int8 layers, pooling, add, concat, clamp, activations (as byte tables) and data movement stay uint8; what
// only a concat reads has the concat's scale and zero point. A norm that only int8 layers read (of a pre-norm
// transformer) computes in float32 and writes uint8.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/quantize_weight.h"

namespace taille {

struct Range {
  float lo, hi;
};
using Ranges = std::map<std::string, Range, std::less<>>;  // by value name

struct QuantizeOptions {
  std::set<std::string> ignore;  // names of nodes that stay float32; an unknown name is an error
  WeightClipping clipping = WeightClipping::none;
  QuantizedWeights* known = nullptr;  // what earlier calls found; this one's is added. May be null
};

struct QuantizeReport {
  std::string name, op;
  std::string precision;  // "int8" or "float32"
  std::string why;        // why that, where there is something to say, else ""
  double weight_sqnr_db;  // see QuantizedWeight; 0 where there are no weights
};

Graph quantize(const Graph& graph, const Ranges& ranges, const QuantizeOptions& options,
               std::vector<QuantizeReport>* report);

// The parameters that cover [lo, hi] and zero.
Quant quant_of(Range range);

}  // namespace taille
