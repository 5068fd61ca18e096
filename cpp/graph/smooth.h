// SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): a channel of activations that is far larger than the others makes
// one scale per tensor coarse for all of them. Its size moves into the weights, which have room:
//   f[j] = max|x[j]|^alpha / max|w[:, j]|^(1 - alpha),   s[j] = max(1, f[j] / (2 median f))
//   x'[j] = x[j] / s[j],   w'[:, j] = w[:, j] s[j]
// So only channels that stand out shrink, to where the others are. The paper lets all channels meet (s = f); then one
// that was small, or zero, on the calibration data (a relu that few samples opened) grows, and what it has on other
// data is cut off: an MLP of random weights, calibrated on 15 samples, went from 41 to 20 dB on the sixteenth.
//
// x' costs nothing: 1 / s goes into the weights of what makes x. That is exact where x comes from
//   a layer_norm or rms_norm over its last axis (gamma and beta),
//   a linear without residual, with no clamp or a relu, which lets positive factors through (rows and bias),
//   attention with its heads last, whose values come from such a linear (attention is linear in them),
// In the latter two only linear layers may read x; what else reads a norm (the residual of a post-norm encoder)
// gets x' s, one product for all. Other sites are left as they are, and the report says why.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace taille {

// By value name: max|x[j]| over the data, for each channel j of the last axis.
using ChannelMaxima = std::map<std::string, std::vector<float>, std::less<>>;

struct SmoothSite {
  std::vector<std::string> layers;  // the linear layers that read x
  std::string into;                 // the node that took 1 / s, or empty
  std::string why;                  // why the site was left, or empty
};

// `graph` is optimised float32; alpha in [0, 1]. The result computes the same function.
Graph smooth(const Graph& graph, const ChannelMaxima& maxima, double alpha, std::vector<SmoothSite>* report);

}  // namespace taille
