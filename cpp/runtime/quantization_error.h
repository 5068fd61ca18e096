// What quantising costs, measured on data in one pass; memory does not depend on how much data there is.
//   LayerErrors    each layer alone, on exact inputs: the mean error of its channels, and its SQNR
//   NetworkErrors  the quantised network against the float32 one, node by node, errors inherited and all
// SQNR = 10 log10(sum exact^2 / sum (quantised - exact)^2) in dB; infinity where nothing differs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/layer_probes.h"
#include "runtime/model.h"

namespace taille {

struct ErrorEnergy {
  double signal = 0, noise = 0;
  double sqnr_db() const;
};

class LayerErrors {
 public:
  // `exact` is the optimised float32 graph that `quantized` was made from.
  LayerErrors(const Graph& exact, const Graph& quantized, int threads, Isa isa);

  Model& model() { return model_; }  // takes the inputs of `exact`
  void run(const Plan& plan, std::span<const void* const> inputs, std::span<void* const> outputs);

  static constexpr double kSystematic = 0.25;

  struct Layer {
    std::string name;
    // Per output channel, before residual and clamp (empty for attention, which has no bias); 0 where it explains less
    // than kSystematic of the mean square: such an error is made by few rows (an outlier that is clipped in some
    // tokens), and no constant repairs it in those without harming the others.
    std::vector<float> mean_error;
    double sqnr_db;
  };
  std::vector<Layer> layers() const;

 private:
  struct Sums {
    std::vector<double> error, square;  // per channel
    int64_t rows = 0;
    ErrorEnergy energy;
  };

  std::vector<LayerProbe> probes_;
  std::vector<Sums> sums_;          // by probe
  std::map<size_t, size_t> exact_;  // node -> probe
  std::map<size_t, size_t> error_;  // node -> probe
  Model model_;

  LayerErrors(ProbedGraph probed, int threads, Isa isa);
};

class NetworkErrors {
 public:
  NetworkErrors(const Graph& exact, const Graph& quantized, int threads, Isa isa);

  Model& exact() { return exact_; }
  Model& quantized() { return quantized_; }
  // Holds the outputs of all nodes for one batch: give it small ones.
  void run(std::span<const InputArray> inputs, std::span<const void* const> pointers, std::span<void* const> outputs);

  // By name of the nodes that both graphs have; values that are not finite in either are left out.
  std::map<std::string, double> sqnr_db() const;

 private:
  Model exact_, quantized_;
  std::map<std::string, ErrorEnergy> energy_;
};

}  // namespace taille
