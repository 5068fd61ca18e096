// Calibration: the float32 graph runs in the native engine over the user's samples while statistics of every float
// tensor are gathered in one pass. Memory does not depend on the number of samples: two extremes and one histogram of
// kBins bins per tensor, and the largest magnitude of each channel that a linear layer reads. The histogram covers
// [-reach, reach]; where a value lies outside, reach doubles and bins are merged in pairs, so that nothing seen is
// lost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/quantize.h"
#include "graph/smooth.h"
#include "runtime/model.h"
#include "runtime/range_search.h"

namespace taille {

class TensorStatistics {
 public:
  static constexpr int64_t kBins = 4096;

  // Gives how many values are NaN or infinite. A tensor that ever held such a value has no range.
  int64_t observe(const float* x, int64_t n, Isa isa);
  bool has_range() const { return count_ > 0 && bad_ == 0; }
  Range minmax() const { return {lo_, hi_}; }
  // The range without the (100 - percentile) % of the values that lie lowest, and as many that lie highest.
  Range percentile(double percentile) const;
  // See range_search.h.
  Range least(double (*cost)(const Histogram&, Range)) const;

 private:
  float lo_ = 0, hi_ = 0;
  double reach_ = 0;
  int64_t count_ = 0, bad_ = 0;
  std::vector<int64_t> bins_;

  void widen(double reach);
};

class Calibrator {
 public:
  // `graph` is optimised float32.
  Calibrator(Graph graph, int threads, Isa isa);

  Model& model() { return model_; }
  // Throws std::invalid_argument naming a graph input that holds NaN or infinity.
  void run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs);
  int64_t batches() const { return batches_; }

  // By value name. method: "minmax", "percentile", "entropy" or "mse". Throws where nothing was run.
  Ranges ranges(const std::string& method, double percentile) const;

  // Of the values that linear layers read. Throws where nothing was run.
  ChannelMaxima channel_maxima() const;

 private:
  Model model_;
  // What a linear layer reads. A reshape is a view, not a step: it is seen where its memory is written.
  struct LinearInput {
    ValueId value, written;
    std::vector<float> maxima;  // by channel
  };

  std::vector<TensorStatistics> statistics_;  // by value id
  std::vector<LinearInput> linear_inputs_;
  int64_t batches_ = 0;

  void find_linear_inputs();
  void observe_channels(ValueId id, const float* x, int64_t n);
};

}  // namespace taille
