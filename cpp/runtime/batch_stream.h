// A stream: the threads and buffers that one batch at a time runs on.
#pragma once

#include <optional>
#include <vector>

#include "runtime/batch_queue.h"
#include "runtime/model.h"

namespace taille {

class BatchStream {
 public:
  explicit BatchStream(int threads) : pool_(threads) {}

  // Fills the reply of each request. Where a batch fails each of its requests runs alone, so that an input that the
  // model refuses (an id outside a table) is the matter of the one who sent it. Gives the seconds that the batch took
  // without planning it; nothing where it failed.
  std::optional<double> run(Model& model, BatchQueue::Batch& batch);

 private:
  ThreadPool pool_;
  Buffer gathered_, results_;  // of a batch of several requests
  std::vector<InputArray> inputs_;
  std::vector<const void*> from_;
  std::vector<void*> to_;

  std::optional<double> run_alone(Model& model, BatchQueue::Request& request);
  double run_together(Model& model, BatchQueue::Batch& batch);
  void gather(const BatchQueue::Batch& batch, const Graph& graph);
  void scatter(BatchQueue::Batch& batch, const Graph& graph, const Plan& plan);
};

}  // namespace taille
