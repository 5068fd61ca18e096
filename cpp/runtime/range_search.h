// Choosing a clipping range from a histogram: the one that loses least when its values are rounded to 256 steps and
// what lies outside is clipped.
//   mse       least mean squared error, of bin centres
//   entropy   least Kullback-Leibler divergence of the quantised from the clipped distribution (as TensorRT's
//             calibrator; Migacz 2017, "8-bit inference with TensorRT")
#pragma once

#include <cstdint>
#include <span>

#include "graph/quantize.h"

namespace taille {

// Counts over [-reach, reach] in equal bins.
struct Histogram {
  std::span<const int64_t> bins;
  double reach;
  double width() const { return 2 * reach / static_cast<double>(bins.size()); }
  double centre(size_t bin) const { return -reach + (static_cast<double>(bin) + 0.5) * width(); }
};

double quantization_error(const Histogram& histogram, Range range);  // mean squared, real units
double quantization_divergence(const Histogram& histogram, Range range);

// The best range inside `seen` (the extremes): both ends are drawn in together, then each alone.
Range least_range(const Histogram& histogram, Range seen, double (*cost)(const Histogram&, Range));

}  // namespace taille
