// Each value is one of:
//   shared       the same for every batch: constants, and what is computed from them
//   by_sample    dimension 0 is a multiple of the batch, and sample i owns the i-th of equal, contiguous parts
//   positions    0, 1, 2, ... along dimension 0, the batch: which sample this is; all other dimensions are 1
//   mixed        anything else
#include "runtime/batch_axis.h"

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"

namespace taille {
namespace {

enum class Kind : uint8_t { shared, by_sample, positions, mixed };

// One value comes of values that are broadcast together, element by element.
const std::set<std::string, std::less<>> kBroadcast = {
    "add",   "sub",     "mul",      "div",        "minimum", "maximum",     "pow",        "eq",
    "ne",    "lt",      "le",       "gt",         "ge",      "logical_and", "logical_or", "logical_not",
    "where", "neg",     "abs",      "exp",        "log",     "sqrt",        "rsqrt",      "reciprocal",
    "tanh",  "sigmoid", "silu",     "erf",        "gelu",    "gelu_tanh",   "hardswish",  "hardsigmoid",
    "clamp", "cast",    "quantize", "dequantize", "lookup"};
// Input 0 (and a residual) by sample, all else the layer's own; the trailing dimensions are its business.
const std::set<std::string, std::less<>> kLayers = {"conv2d", "batch_norm", "max_pool2d", "avg_pool2d",
                                                    "adaptive_avg_pool2d"};

class Prover {
 public:
  Prover(const Graph& g, std::string symbol)
      : g_(g), symbol_(std::move(symbol)), batch_(Dim::symbol(symbol_)), kinds_(g.values.size(), Kind::shared) {}

  std::string run() {
    for (ValueId i : g_.inputs) kind(i) = Kind::by_sample;
    const Node* first_mixed = nullptr;
    for (const Node& node : g_.nodes) {
      kind(node.output) = kind_of(node);
      if (kind(node.output) == Kind::mixed && !first_mixed) first_mixed = &node;
    }
    for (size_t o = 0; o < g_.outputs.size(); ++o) {
      if (kind(g_.outputs[o]) == Kind::by_sample) continue;
      if (kind(g_.outputs[o]) == Kind::mixed && first_mixed)
        return concat("output '", g_.output_names[o], "' may mix samples (", first_mixed->op, " '", first_mixed->name,
                      "')");
      return concat("output '", g_.output_names[o], "' does not depend on the samples alone");
    }
    return "";
  }

 private:
  const Graph& g_;
  const std::string symbol_;
  const Dim batch_;
  std::vector<Kind> kinds_;

  Kind& kind(ValueId v) { return kinds_[static_cast<size_t>(v)]; }
  const Shape& shape(ValueId v) const { return g_.value(v).shape; }

  bool mentions_batch(const Dim& d) const {
    const auto symbols = d.symbols();
    return std::ranges::find(symbols, symbol_) != symbols.end();
  }
  bool mentions_batch(const Shape& s) const {
    return std::ranges::any_of(s, [&](const Dim& d) { return mentions_batch(d); });
  }
  // Whether a value of that shape can be cut into parts of samples along dimension 0.
  bool counts_samples(const Shape& s) const {
    return !s.empty() && s[0].exact_quotient(batch_) &&
           std::none_of(s.begin() + 1, s.end(), [&](const Dim& d) { return mentions_batch(d); });
  }

  // Whether `v` may be broadcast against values of shape `out` that are by sample.
  bool fits(ValueId v, const Shape& out) {
    if (v == kNone) return true;
    const Shape& s = shape(v);
    if (kind(v) == Kind::by_sample) return s.size() == out.size() && s[0] == out[0];
    return kind(v) == Kind::shared && (s.size() < out.size() || s[0] == Dim(1));
  }
  bool all_fit(const Node& node, const Shape& out) {
    return std::ranges::all_of(node.inputs, [&](ValueId v) { return fits(v, out); });
  }
  bool is_shared(const Node& node, size_t first) {
    for (size_t i = first; i < node.inputs.size(); ++i)
      if (node.has_input(i) && kind(node.inputs[i]) != Kind::shared) return false;
    return true;
  }

  Kind kind_of(const Node& node) {
    const bool shared = is_shared(node, 0);
    const Shape& out = shape(node.output);
    if (node.op == "slice" && mentions_batch(node.attr<Shape>("start"))) return Kind::mixed;
    if (shared && !mentions_batch(out)) return Kind::shared;
    if (node.op == "arange") {
      const bool whole = out[0] == batch_ && node.attr<int64_t>("start") == 0 && node.attr<int64_t>("step") == 1;
      return whole ? Kind::positions : Kind::mixed;
    }
    if (!counts_samples(out)) return Kind::mixed;
    if (node.op == "full") return Kind::by_sample;
    if (shared)  // the batch comes from a shape
      return node.op == "expand" && all_fit(node, out) ? Kind::by_sample : Kind::mixed;
    if (node.op == "reshape" && kind(node.inputs[0]) == Kind::positions)  // as masks of transformers index samples
      return out[0] == batch_ && std::all_of(out.begin() + 1, out.end(), [](const Dim& d) { return d == Dim(1); })
                 ? Kind::positions
                 : Kind::mixed;
    for (ValueId v : node.inputs)
      if (v != kNone && (kind(v) == Kind::mixed || (kind(v) == Kind::positions && node.op != "index")))
        return Kind::mixed;
    return treats_samples_apart(node, out) ? Kind::by_sample : Kind::mixed;
  }

  // Of a node that reads what is by sample or shared, and at least one of the first.
  bool treats_samples_apart(const Node& node, const Shape& out) {
    const std::string& op = node.op;
    const ValueId x = node.inputs[0];
    const size_t rank = out.size();
    const bool leads = kind(x) == Kind::by_sample && shape(x).size() == rank && shape(x)[0] == out[0];
    auto axis = [&] {
      const int64_t a = node.attr<int64_t>("axis");
      return a < 0 ? a + static_cast<int64_t>(shape(x).size()) : a;
    };
    if (op == "sdpa") return rank >= 3 && leads && all_fit(node, out);
    if (kBroadcast.contains(op) || op == "expand") return all_fit(node, out);
    if (kLayers.contains(op) || op == "linear") return leads && rank >= 2 && layer_fits(node, out);
    if (op == "matmul") return rank >= 3 ? all_fit(node, out) : leads && kind(node.inputs[1]) == Kind::shared;
    if (op == "layer_norm" || op == "rms_norm")
      return leads && node.attr<int64_t>("axes") < static_cast<int64_t>(rank) && is_shared(node, 1);
    if (op == "softmax" || op == "slice") return leads && axis() != 0;
    if (op == "mean") return kind(x) == Kind::by_sample && shape(x)[0] == out[0] && !means_over_samples(node);
    if (op == "concat") return axis() != 0 && all_by_sample(node, out);
    if (op == "gather") return axis() != 0 && all_by_sample(node, out);
    if (op == "embedding")
      return kind(x) == Kind::shared && kind(node.inputs[1]) == Kind::by_sample && is_shared(node, 2);
    if (op == "reshape") return kind(x) == Kind::by_sample;
    if (op == "permute") return leads && node.attr<std::vector<int64_t>>("axes")[0] == 0;
    if (op == "pad")
      return leads && node.attr<std::vector<int64_t>>("before")[0] == 0 &&
             node.attr<std::vector<int64_t>>("after")[0] == 0;
    return op == "index" && index_fits(node, out);
  }

  bool all_by_sample(const Node& node, const Shape& out) {
    return std::ranges::all_of(node.inputs, [&](ValueId v) { return kind(v) == Kind::by_sample && fits(v, out); });
  }

  // Weights and the like are shared, a residual (input 3) is by sample.
  bool layer_fits(const Node& node, const Shape& out) {
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == kNone || kind(v) == Kind::shared) continue;
      if (i != 3 || shape(v).size() != out.size() || shape(v)[0] != out[0]) return false;
    }
    return true;
  }

  static bool means_over_samples(const Node& node) {
    const auto& axes = node.attr<std::vector<int64_t>>("axes");
    return std::ranges::find(axes, 0) != axes.end();
  }

  // A table by each sample's indices; or of each sample (by its position) what that sample's indices say.
  bool index_fits(const Node& node, const Shape& out) {
    const ValueId x = node.inputs[0];
    size_t indices_rank = 0;
    for (size_t i = 1; i < node.inputs.size(); ++i) indices_rank = std::max(indices_rank, shape(node.inputs[i]).size());
    const Shape indices(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(std::min(indices_rank, out.size())));
    const bool own = kind(x) == Kind::by_sample;
    if (own && (kind(node.inputs[1]) != Kind::positions || shape(x)[0] != batch_ ||
                shape(node.inputs[1]).size() != indices_rank))
      return false;
    for (size_t i = own ? 2 : 1; i < node.inputs.size(); ++i)
      if (kind(node.inputs[i]) == Kind::positions || !fits(node.inputs[i], indices)) return false;
    return own || kind(x) == Kind::shared;
  }
};

}  // namespace

std::string why_not_batched(const Graph& graph) {
  if (graph.inputs.empty()) return "it has no input";
  std::string symbol;
  for (bool output : {false, true})
    for (ValueId v : output ? graph.outputs : graph.inputs) {
      const Value& value = graph.value(v);
      const std::string what = concat(output ? "output" : "input", " '", value.name, "' ", text_of(value.shape));
      if (value.shape.empty() || value.shape[0].is_constant()) return concat("dimension 0 of ", what, " does not vary");
      const std::string first = value.shape[0].text();
      if (symbol.empty()) symbol = first;
      if (first != symbol || value.shape[0] != Dim::symbol(first))
        return concat("dimension 0 of ", what, " is not '", symbol, "'");
      for (size_t d = 1; d < value.shape.size(); ++d)
        if (std::ranges::count(value.shape[d].symbols(), symbol) > 0)
          return concat("'", symbol, "' is more than dimension 0 of ", what);
    }
  return Prover(graph, symbol).run();
}

}  // namespace taille
