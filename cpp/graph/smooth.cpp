#include "graph/smooth.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "graph/ops.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

constexpr double kStandsOut = 2;  // times the median

class Smoother {
 public:
  Smoother(const Graph& graph, const ChannelMaxima& maxima, double alpha)
      : g_(graph), uses_(graph.use_counts()), producers_(graph.producers()), maxima_(maxima), alpha_(alpha) {}

  Graph run(std::vector<SmoothSite>* report) {
    const size_t count = g_.nodes.size();
    for (ValueId x : sites()) {
      SmoothSite site;
      for (size_t n : readers(x)) site.layers.push_back(g_.nodes[n].name);
      site.why = smooth_site(x, &site.into);
      if (report) report->push_back(std::move(site));
    }
    sort_products(count);
    return without_dead_code(g_);
  }

 private:
  Graph g_;
  std::vector<int32_t> uses_, producers_;
  const ChannelMaxima& maxima_;
  double alpha_;
  std::map<ValueId, std::shared_ptr<Tensor>> own_;  // constants made here, which may be scaled again

  static size_t at(ValueId v) { return static_cast<size_t>(v); }

  bool is_float_linear(const Node& node) const {
    return node.op == "linear" && g_.value(node.inputs[1]).dtype == DType::f32;
  }

  // The values that linear layers read, in the order of their first reader.
  std::vector<ValueId> sites() const {
    std::vector<ValueId> sites;
    for (const Node& node : g_.nodes)
      if (is_float_linear(node) && std::find(sites.begin(), sites.end(), node.inputs[0]) == sites.end())
        sites.push_back(node.inputs[0]);
    return sites;
  }

  std::vector<size_t> readers(ValueId x) const {
    std::vector<size_t> readers;
    for (size_t n = 0; n < g_.nodes.size(); ++n)
      if (is_float_linear(g_.nodes[n]) && g_.nodes[n].inputs[0] == x) readers.push_back(n);
    return readers;
  }

  const Node* producer(ValueId x) const {
    const int32_t n = producers_[at(x)];
    return n < 0 ? nullptr : &g_.nodes[static_cast<size_t>(n)];
  }

  // Why not, or "" and the name of the node that took 1 / s.
  std::string smooth_site(ValueId x, std::string* into) {
    const std::vector<size_t> layers = readers(x);
    const auto found = maxima_.find(g_.value(x).name);
    if (found == maxima_.end()) return "no maxima of its input were measured";
    const Node* source = source_of(x);
    if (!source) return "its input comes from " + origin(x) + ", which cannot take the factors";
    const bool shared = static_cast<size_t>(uses_[at(x)]) != layers.size();
    if (shared && !is_norm(source->op)) return "its input is also read by " + other_reader(x);
    const auto size = static_cast<size_t>(g_.value(g_.nodes[layers[0]].inputs[1]).constant->dims[1]);
    check(found->second.size() == size, "'", g_.value(x).name, "' has ", size, " channels; ", found->second.size(),
          " maxima were given");
    const std::vector<double> s = factors(found->second, layers);
    if (std::ranges::all_of(s, [](double factor) { return factor == 1; })) return "no channel of its input stands out";
    for (size_t n : layers) scale_columns(g_.nodes[n], s);
    Node& node = g_.nodes[static_cast<size_t>(source - g_.nodes.data())];
    *into = node.name;
    scale_source(node, s);
    if (shared) restore(x, s);
    return "";
  }

  // What reads x besides linear layers.
  std::string other_reader(ValueId x) const {
    for (const Node& node : g_.nodes)
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (node.inputs[i] == x && !(is_float_linear(node) && i == 0)) return node.op + " '" + node.name + "'";
    return "the caller, as an output";
  }

  // Gives the other readers of x (residuals) what it was, by a product with s.
  void restore(ValueId x, const std::vector<double>& s) {
    auto factors = std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{static_cast<int64_t>(s.size())});
    for (size_t j = 0; j < s.size(); ++j) factors->as<float>()[j] = static_cast<float>(s[j]);
    Node product;
    product.op = "mul";
    product.name = g_.value(x).name + ".unsmoothed";
    product.inputs = {x, g_.add_constant(product.name + ".factors", factors)};
    const ValueId now = g_.add_node(std::move(product));
    for (Node& node : g_.nodes)
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (node.inputs[i] == x && !(is_float_linear(node) && i == 0) && node.output != now) node.inputs[i] = now;
    std::replace(g_.outputs.begin(), g_.outputs.end(), x, now);
  }

  // The nodes with each product of restore(), which were added at the end, behind what it reads.
  void sort_products(size_t count) {
    std::vector<Node> products(g_.nodes.begin() + static_cast<int64_t>(count), g_.nodes.end()), sorted;
    g_.nodes.resize(count);
    for (Node& node : g_.nodes) {
      const ValueId made = node.output;
      sorted.push_back(std::move(node));
      for (Node& product : products)
        if (product.inputs[0] == made) sorted.push_back(product);
    }
    g_.nodes = std::move(sorted);
  }

  std::string origin(ValueId x) const {
    const Node* node = producer(x);
    return node ? node->op + " '" + node->name + "'" : "the caller";
  }

  // The node whose weights can take 1 / s for x, or null.
  const Node* source_of(ValueId x) const {
    const Node* node = producer(x);
    if (!node) return nullptr;
    if (is_norm(node->op)) return constant_norm(*node) ? node : nullptr;
    if (is_float_linear(*node)) return takes_factors(*node) ? node : nullptr;
    return values_source(x, node);
  }

  bool constant_norm(const Node& node) const {
    for (size_t i = 1; i < 3; ++i)
      if (node.has_input(i) && !g_.is_constant(node.inputs[i])) return false;
    return node.attr<int64_t>("axes") == 1;
  }

  static bool takes_factors(const Node& node) {
    const double lo = node.attr<double>("lo");
    return !node.has_input(3) && node.attr<double>("hi") == kNoLimit && (lo == -kNoLimit || lo == 0);
  }

  // linear [.., H D] -> reshape [.., H, D] -> values of attention -> reshape [.., H D] = x: channel by channel the
  // same.
  const Node* values_source(ValueId x, const Node* merge) const {
    if (merge->op != "reshape") return nullptr;
    const Node* attention = producer(merge->inputs[0]);
    if (!attention || attention->op != "sdpa" || !attention->attr<bool>("heads_last")) return nullptr;
    const Node* split = producer(attention->inputs[2]);
    if (!split || split->op != "reshape") return nullptr;
    const Node* linear = producer(split->inputs[0]);
    if (!linear || !is_float_linear(*linear) || !takes_factors(*linear)) return nullptr;
    for (ValueId v : {attention->output, split->output, linear->output})
      if (uses_[at(v)] != 1) return nullptr;
    const Shape& heads = g_.value(split->output).shape;
    Shape flat(heads.begin(), heads.end() - 2);
    flat.push_back(heads[heads.size() - 2] * heads.back());
    return g_.value(linear->output).shape == flat && g_.value(x).shape.back() == flat.back() ? linear : nullptr;
  }

  std::vector<double> factors(const std::vector<float>& maxima, const std::vector<size_t>& layers) const {
    std::vector<double> weights(maxima.size(), 0), s(maxima.size(), 1);
    for (size_t n : layers) {
      const Tensor& w = *g_.value(g_.nodes[n].inputs[1]).constant;
      for (int64_t i = 0; i < w.count(); ++i) {
        double& most = weights[static_cast<size_t>(i) % maxima.size()];
        most = std::max(most, static_cast<double>(std::abs(w.as<float>()[i])));
      }
    }
    std::vector<double> known;
    for (size_t j = 0; j < s.size(); ++j) {
      if (!(maxima[j] > 0 && weights[j] > 0)) continue;  // nothing to move
      s[j] = std::pow(static_cast<double>(maxima[j]), alpha_) / std::pow(weights[j], 1 - alpha_);
      known.push_back(s[j]);
    }
    if (known.empty()) return s;
    const auto middle = known.begin() + static_cast<int64_t>(known.size() / 2);
    std::nth_element(known.begin(), middle, known.end());
    // No factor may bring a weight near the end of float32.
    for (size_t j = 0; j < s.size(); ++j)
      s[j] = maxima[j] > 0 && weights[j] > 0 ? std::clamp(s[j] / (kStandsOut * *middle), 1.0, 1e5) : 1;
    return s;
  }

  // The input as a tensor that is this node's own, copied at first.
  Tensor& own(Node& node, size_t input) {
    const auto mine = own_.find(node.inputs[input]);
    if (mine != own_.end()) return *mine->second;
    const TensorPtr given = g_.value(node.inputs[input]).constant;
    auto copy = std::make_shared<Tensor>(given->dtype, given->dims);
    std::copy_n(given->as<float>(), given->count(), copy->as<float>());
    node.inputs[input] = g_.add_constant(node.name + (input == 1 ? ".smooth_weight" : ".smooth_bias"), copy);
    own_[node.inputs[input]] = copy;
    return *copy;
  }

  void scale_columns(Node& node, const std::vector<double>& s) {
    Tensor& w = own(node, 1);
    for (int64_t i = 0; i < w.count(); ++i)
      w.as<float>()[i] = static_cast<float>(w.as<float>()[i] * s[static_cast<size_t>(i) % s.size()]);
  }

  // linear: rows of the weight, and the bias. Norms: gamma (made where there is none) and beta.
  void scale_source(Node& node, const std::vector<double>& s) {
    if (!node.has_input(1)) {
      auto ones = std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{static_cast<int64_t>(s.size())});
      std::fill_n(ones->as<float>(), s.size(), 1.0f);
      node.inputs.resize(std::max<size_t>(2, node.inputs.size()), kNone);
      node.inputs[1] = g_.add_constant(node.name + ".gamma", ones);
    }
    for (size_t input : {size_t{1}, size_t{2}}) {
      if (!node.has_input(input)) continue;
      Tensor& t = own(node, input);
      const auto row = static_cast<size_t>(t.count()) / s.size();
      for (size_t i = 0; i < s.size() * row; ++i) t.as<float>()[i] = static_cast<float>(t.as<float>()[i] / s[i / row]);
    }
  }
};

}  // namespace

Graph smooth(const Graph& graph, const ChannelMaxima& maxima, double alpha, std::vector<SmoothSite>* report) {
  check(alpha >= 0 && alpha <= 1, "smoothing with alpha ", alpha, "; wanted 0 to 1");
  return Smoother(graph, maxima, alpha).run(report);
}

}  // namespace taille
