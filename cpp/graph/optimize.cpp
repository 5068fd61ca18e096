#include "graph/optimize.h"

#include <algorithm>

#include "base/error.h"

namespace taille {

namespace {

constexpr Pass kPasses[] = {
    {"simplify", "drop what does nothing: equal reshapes, casts, slices; merge reshapes and permutes", pass_simplify},
    {"fold_constants", "compute what depends on constants only", pass_fold_constants},
    {"fold_batch_norm", "batch norm into the weights before it, else into a product and a sum", pass_fold_batch_norm},
    {"fold_padding", "zeros around an image into the padding of the convolutions that read it", pass_fold_padding},
    {"layout", "images from NCHW to NHWC, weights with them", pass_layout},
    {"attention", "heads stay last, so that attention needs no transposes", pass_attention},
    {"simplify_again", "drop the permutes that the two passes above left in pairs", pass_simplify},
    {"rms_norm", "what computes x / sqrt(mean(x^2) + epsilon) * gamma into one node", pass_rms_norm},
    {"fuse", "bias, residual and clamp into the linear or convolution before them", pass_fuse},
    {"zero_signs", "zeros of weights without their sign, so that blocks of them are zero bytes", pass_zero_signs},
};

}  // namespace

std::span<const Pass> passes() { return kPasses; }

Graph optimize(const Graph& graph, const Evaluator& evaluate, const std::string& dump_after, std::string* dump) {
  if (!dump_after.empty()) {
    std::string names;
    bool found = false;
    for (const Pass& p : kPasses) {
      found = found || dump_after == p.name;
      names += (names.empty() ? "" : ", ") + std::string(p.name);
    }
    check(found, "no pass is named '", dump_after, "'; wanted one of ", names);
  }
  Graph g = graph;
  for (const Pass& pass : kPasses) {
    g = pass.run(g, evaluate);
    if (dump_after == pass.name && dump != nullptr) *dump = g.dump();
  }
  return g;
}

}  // namespace taille
