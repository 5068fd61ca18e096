// Bias correction, empirical form (Nagel et al. 2019, arXiv:1906.04721, section 4.2): rounding shifts the mean of a
// layer's output channels; what was measured of that on data (runtime/quantization_error.h) is taken off the bias.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace taille {

// By layer: the mean error of each output channel before residual and clamp, in real units.
using MeanErrors = std::map<std::string, std::vector<float>, std::less<>>;

// The int8 graph with bias[c] - error[c] in the layers named; a layer without a bias gets one. Throws
// std::invalid_argument for a name that is no int8 layer and for a wrong number of channels.
Graph correct_bias(const Graph& quantized, const MeanErrors& errors);

}  // namespace taille
