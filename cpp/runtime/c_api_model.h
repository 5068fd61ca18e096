// Inside of the C API: a model that is open, and the tensors of a call.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/batcher.h"
#include "runtime/c_api_support.h"
#include "runtime/model.h"

namespace taille::c_api {

// The taille_dtype of an input or output.
int32_t code_of(DType dtype);

// An input or output as the model tells of it.
struct Described {
  std::string name;
  DType dtype;
  std::vector<int64_t> dims;  // TAILLE_DYNAMIC where it varies
  std::vector<std::string> texts;
  std::vector<std::pair<int64_t, int64_t>> limits;  // least and most, as Python's predict has them
};

class OpenModel {
 public:
  // Throws as load_artefact and Model do. threads = 0: all that are granted.
  OpenModel(const std::string& path, int threads);

  std::shared_ptr<Model> model;  // runners share it
  std::vector<Described> inputs, outputs;

  // The arrays of a call; throws std::invalid_argument or TypeError naming the input. Without `with_data`, neither
  // data nor bytes are looked at.
  std::vector<InputArray> arrays(const taille_tensor* given, size_t count, bool with_data) const;
  // The dtype, rank, dims and bytes of each output under a plan.
  std::vector<taille_tensor> shapes(const Plan& plan) const;
  // Throws unless `given` are as many outputs, none of them without room for what `shapes` says or in the way of
  // others.
  void check_outputs(std::span<const InputArray> in, std::span<const taille_tensor> shapes, const taille_tensor* given,
                     size_t count) const;
  // How large dimension 0 of every input may be.
  int64_t most_samples() const;
  // How a runner of this model runs unless it is told: as the artefact says for this CPU (streams and threads only
  // where the model was opened with all threads), else the plain defaults.
  const BatcherOptions& runner_defaults() const { return runner_defaults_; }

 private:
  BatcherOptions runner_defaults_;
};

// Tells the caller what was, or will be, written to each output; of `bytes` only `with_bytes`.
void copy_shapes(std::span<const taille_tensor> shapes, taille_tensor* outputs, bool with_bytes);

Handles<OpenModel>& open_models();

}  // namespace taille::c_api
