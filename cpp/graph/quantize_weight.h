// Weights to int8, symmetric, one scale per output channel:  q = round_half_even(w / scale), in [-127, 127].
//   none  scale[n] = max|w[n]| / 127: nothing is clipped
//   mse   the scale of least squared error among those that keep 100 %, 99 %, ..., 40 % of max|w[n]|; what lies outside
//         is clipped. Rounding costs less than clipping where a few large weights stretch a channel (Choukroun et al.
//         2019, arXiv:1902.06822).
//   pairs as mse, from 200 % down, but weights of one sign at places 2i and 2i + 1 of a channel are held to magnitudes
//         that add up to at most 128: what is too much is taken off both. So CPUs without VNNI can add two products
//         in 16 bits (kernels/gemm_s8.h). Weights of trained networks lose some 2 dB, uniform ones 5.
// Zero stays zero, so masks survive; a channel of zeros has scale 1.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "graph/graph.h"

namespace taille {

enum class WeightClipping { none, mse, pairs };

// Throws std::invalid_argument for a name that is none of these.
WeightClipping clipping_from_name(const std::string& name);

struct QuantizedWeight {
  std::shared_ptr<Tensor> values;  // s8, the weight's shape
  std::shared_ptr<Tensor> scale;   // f32 [output channels]
  double sqnr_db;                  // 10 log10(sum w^2 / sum (w - q scale)^2); infinity where nothing is lost
};

// `weight` is f32 with its output channels first.
QuantizedWeight quantize_weight(const Tensor& weight, WeightClipping clipping);

// Remembers what quantize_weight made of each tensor, and keeps both: a graph is quantised many times where precisions
// are chosen by trial, and the search for scales takes far longer than all else. For one thread at a time.
class QuantizedWeights {
 public:
  const QuantizedWeight& of(const TensorPtr& weight, WeightClipping clipping);

 private:
  std::map<std::pair<TensorPtr, WeightClipping>, QuantizedWeight> known_;
};

}  // namespace taille
