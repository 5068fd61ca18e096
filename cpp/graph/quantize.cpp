#include "graph/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "graph/ops.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

constexpr int64_t kDeepestProduct = 66311;

// Keeps its input's scale: data is only moved or selected.
bool keeps_scale(const Node& node) {
  const std::string& op = node.op;
  if (op == "pad") return node.attr<double>("value") == 0;  // zero is exact at every scale
  return op == "reshape" || op == "permute" || op == "slice" || op == "expand" || op == "max_pool2d";
}

// Element-wise functions that a table of 256 bytes replaces.
double apply(const std::string& op, double x) {
  auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  if (op == "gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (op == "gelu_tanh") return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  if (op == "tanh") return std::tanh(x);
  if (op == "sigmoid") return sigmoid(x);
  if (op == "silu") return x * sigmoid(x);
  if (op == "hardswish") return x * std::clamp(x + 3, 0.0, 6.0) / 6;
  if (op == "hardsigmoid") return std::clamp(x + 3, 0.0, 6.0) / 6;
  return std::numeric_limits<double>::quiet_NaN();
}

bool has_table(const std::string& op) { return !std::isnan(apply(op, 0.5)); }

class Quantizer {
 public:
  Quantizer(const Graph& g, const Ranges& ranges, const QuantizeOptions& options, std::vector<QuantizeReport>* report)
      : r_(g),
        ranges_(ranges),
        options_(options),
        report_(report),
        u8_(g.values.size(), kNone),
        f32_(u8_),
        reader_(sole_readers(g)) {}

  Graph run() {
    decide();
    for (size_t n = 0; n < r_.from.nodes.size(); ++n) rewrite(n);
    for (ValueId o : r_.from.outputs) float_form(o);
    return r_.finish();
  }

 private:
  Rewriter r_;
  const Ranges& ranges_;
  const QuantizeOptions& options_;
  std::vector<QuantizeReport>* report_;
  std::vector<ValueId> u8_, f32_;  // new values in each form, by old value
  std::vector<int32_t> reader_;    // by old value: the only node that reads it, or -1
  std::vector<char> int8_;         // per node: a linear, convolution or attention in int8, an embedding of such rows
  std::vector<char> u8_out_;       // per node: gives uint8
  std::vector<std::string> why_;

  struct Int8Weight {
    ValueId values, scale;
    double sqnr_db;
  };
  std::map<ValueId, Int8Weight> weights_;  // by old value

  const Value& value(ValueId old) const { return r_.from.value(old); }
  static size_t at(ValueId v) { return static_cast<size_t>(v); }

  const Range* range(ValueId old) const {
    auto it = ranges_.find(value(old).name);
    return it == ranges_.end() ? nullptr : &it->second;
  }

  static std::vector<int32_t> sole_readers(const Graph& g) {
    constexpr int32_t kUnread = -2;
    std::vector<int32_t> reader(g.values.size(), kUnread);
    for (size_t n = 0; n < g.nodes.size(); ++n)
      for (ValueId i : g.nodes[n].inputs) {
        if (i == kNone) continue;
        int32_t& r = reader[at(i)];
        r = r == kUnread || r == static_cast<int32_t>(n) ? static_cast<int32_t>(n) : -1;
      }
    return reader;
  }

  // The parameters of a value's uint8 form. What only a concat reads, be it after a selection, takes the concat's: then
  // nothing is rescaled there, and rounded once only. (Its only reader takes it in uint8, or it had no such form.)
  Quant quant_at(ValueId old) const {
    ValueId selected = old;
    for (int32_t n = reader_[at(old)]; n >= 0; n = reader_[at(selected)]) {
      const Node& node = r_.from.nodes[static_cast<size_t>(n)];
      selected = node.output;
      if (node.op == "concat")
        old = selected;
      else if (!keeps_scale(node))
        break;
    }
    return quant_of(*range(old));
  }

  // "" where the node can run in int8, else why not; "-" for nodes without weights.
  std::string obstacle(const Node& node) const {
    const bool table = node.op == "embedding";
    if (node.op != "linear" && node.op != "conv2d" && node.op != "sdpa" && !table) return "-";
    if (options_.ignore.contains(node.name)) return "ignored by request";
    if (node.op == "sdpa") return attention_obstacle(node);
    if (table && !value(node.inputs[0]).constant) return "its table is computed";
    if (table) return value(node.inputs[0]).dtype == DType::f32 ? "" : "already quantised";
    if (value(node.inputs[1]).dtype != DType::f32) return "already quantised";
    const Tensor& w = *value(node.inputs[1]).constant;
    if (w.count() / std::max<int64_t>(1, w.dims[0]) > kDeepestProduct) return "too deep for exact int32 sums";
    if (!range(node.inputs[0])) return "no calibrated range of the input";
    return "";
  }

  // Attention takes part where its inputs are calibrated and are not constants of the model.
  std::string attention_obstacle(const Node& node) const {
    for (size_t i = 0; i < 3; ++i)
      if (!range(node.inputs[i])) return "no calibrated range of an input";
    return "";
  }

  static bool has_residual(const Node& node) { return node.op != "sdpa" && node.has_input(3); }
  static size_t byte_inputs(const Node& node) { return node.op == "sdpa" ? 3 : node.op == "embedding" ? 0 : 1; }

  bool requantises(const Node& node) const {
    if (!range(node.output)) return false;
    if (node.op == "add") return value(node.inputs[0]).shape == value(node.inputs[1]).shape;
    if (node.op == "mean")
      return value(node.inputs[0]).shape.size() == 4 &&
             node.attr<std::vector<int64_t>>("axes") == std::vector<int64_t>{1, 2};
    return node.op == "concat" || node.op == "avg_pool2d" || node.op == "adaptive_avg_pool2d" || node.op == "clamp" ||
           has_table(node.op);
  }

  // By value: whether int8 layers alone read it, directly or moved as a whole, so that nobody needs its float form.
  std::vector<char> read_as_bytes_only() const {
    const auto& nodes = r_.from.nodes;
    std::vector<char> bytes(r_.from.values.size(), 1);
    for (ValueId o : r_.from.outputs) bytes[at(o)] = 0;
    for (size_t n = nodes.size(); n-- > 0;) {
      const Node& node = nodes[n];
      const bool moved = (node.op == "reshape" || node.op == "permute") && bytes[at(node.output)];
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (node.has_input(i) && !moved && !(int8_[n] && i < byte_inputs(node))) bytes[at(node.inputs[i])] = 0;
    }
    return bytes;
  }

  // Forward: which values could be uint8 (made by an int8 layer or for int8 layers alone, or passed on from such).
  // Backward: which of them somebody wants so.
  void decide() {
    const auto& nodes = r_.from.nodes;
    int8_.assign(nodes.size(), 0);
    u8_out_.assign(nodes.size(), 0);
    why_.resize(nodes.size());
    for (size_t n = 0; n < nodes.size(); ++n) {
      why_[n] = obstacle(nodes[n]);
      int8_[n] = why_[n].empty();
    }
    const std::vector<char> bytes_only = read_as_bytes_only();
    std::vector<char> available(r_.from.values.size(), 0), wanted(r_.from.values.size(), 0), fixed(wanted);
    for (ValueId i : r_.from.inputs) available[at(i)] = value(i).dtype == DType::f32 && range(i);
    for (ValueId o : r_.from.outputs) fixed[at(o)] = 1;  // outputs are float32, made without a detour
    std::vector<char> able(nodes.size(), 0);
    for (size_t n = 0; n < nodes.size(); ++n) {
      const Node& node = nodes[n];
      if (int8_[n]) {
        able[n] = node.op != "embedding" && range(node.output) != nullptr;
      } else if (is_norm(node.op)) {
        able[n] = bytes_only[at(node.output)] && range(node.output) != nullptr;
      } else if (value(node.output).dtype == DType::f32 && (keeps_scale(node) || requantises(node))) {
        able[n] = std::all_of(node.inputs.begin(), node.inputs.end(),
                              [&](ValueId i) { return i != kNone && available[at(i)]; });
      }
      available[at(node.output)] = able[n];
    }
    for (size_t n = nodes.size(); n-- > 0;) {
      const Node& node = nodes[n];
      u8_out_[n] = able[n] && wanted[at(node.output)] && !fixed[at(node.output)];
      for (size_t i = 0; int8_[n] && i < byte_inputs(node); ++i) wanted[at(node.inputs[i])] = 1;
      if (int8_[n] && u8_out_[n] && has_residual(node)) wanted[at(node.inputs[3])] = 1;
      if (!int8_[n] && u8_out_[n] && !is_norm(node.op))
        for (ValueId i : node.inputs) wanted[at(i)] = 1;
    }
  }

  // The float32 (or integer) form of an old value; dequantised where only the uint8 form exists.
  ValueId float_form(ValueId old) {
    if (old == kNone) return kNone;
    ValueId& now = f32_[at(old)];
    if (now == kNone && u8_[at(old)] != kNone && !r_.is_mapped(old)) {
      const Node origin = origin_of(old);
      now = r_.emit("dequantize", {u8_[at(old)]}, {}, origin, ".dequantize");
      r_.alias(old, now);
    }
    if (now == kNone) now = r_.map(old);
    return now;
  }

  ValueId byte_form(ValueId old) {
    ValueId& now = u8_[at(old)];
    if (now == kNone) {
      check(range(old) != nullptr, "value '", value(old).name, "' has no calibrated range");
      const ValueId x = r_.map(old);
      now = r_.emit("quantize", {x}, {}, origin_of(old), ".quantize", quant_at(old));
    }
    return now;
  }

  Node origin_of(ValueId old) const {
    Node origin;
    origin.name = value(old).name;
    return origin;
  }

  void rewrite(size_t n) {
    const Node& node = r_.from.nodes[n];
    if (int8_[n]) return node.op == "sdpa" ? attention(n) : node.op == "embedding" ? table(node) : layer(n);
    if (report_ && why_[n] != "-") report_->push_back({node.name, node.op, "float32", why_[n], 0});
    if (u8_out_[n]) return is_norm(node.op) ? norm(n) : byte_node(node);
    for (ValueId i : node.inputs) float_form(i);
    r_.copy(node);
  }

  // A weight that several nodes read (an embedding and the layer that decodes it) is stored once.
  // Only matrix products multiply pairs; what they do not read is clipped without.
  const Int8Weight& weight_of(ValueId old, bool in_product) {
    const auto [it, absent] = weights_.try_emplace(old);
    if (absent) {
      const TensorPtr& w = value(old).constant;
      const bool free = options_.clipping == WeightClipping::pairs && !in_product;
      const WeightClipping clipping = free ? WeightClipping::mse : options_.clipping;
      const QuantizedWeight q = options_.known ? options_.known->of(w, clipping) : quantize_weight(*w, clipping);
      const std::string& name = value(old).name;
      it->second = {r_.constant(name + ".int8", q.values), r_.constant(name + ".scale", q.scale), q.sqnr_db};
    }
    return it->second;
  }

  void layer(size_t n) {
    const Node& node = r_.from.nodes[n];
    std::vector<ValueId> inputs(5, kNone);
    inputs[0] = byte_form(node.inputs[0]);
    const bool depthwise = node.op == "conv2d" && value(node.inputs[1]).constant->dims.back() == 1;
    const Int8Weight& weight = weight_of(node.inputs[1], !depthwise);
    inputs[1] = weight.values;
    if (node.has_input(2)) inputs[2] = r_.map(node.inputs[2]);
    if (node.has_input(3)) inputs[3] = u8_out_[n] ? byte_form(node.inputs[3]) : float_form(node.inputs[3]);
    inputs[4] = weight.scale;
    finish_int8(n, std::move(inputs), weight.sqnr_db);
  }

  void table(const Node& node) {
    const Int8Weight& weight = weight_of(node.inputs[0], false);
    r_.alias(node.output,
             r_.emit("embedding", {weight.values, float_form(node.inputs[1]), weight.scale}, {}, node, ""));
    if (report_) report_->push_back({node.name, node.op, "int8", "a scale per row of the table", weight.sqnr_db});
  }

  void attention(size_t n) {
    const Node& node = r_.from.nodes[n];
    std::vector<ValueId> inputs;
    for (size_t i = 0; i < 3; ++i) inputs.push_back(byte_form(node.inputs[i]));
    if (node.has_input(3)) inputs.push_back(float_form(node.inputs[3]));
    finish_int8(n, std::move(inputs), 0);
  }

  void finish_int8(size_t n, std::vector<ValueId> inputs, double sqnr_db) {
    emit_typed(n, std::move(inputs));
    const Node& node = r_.from.nodes[n];
    if (report_) report_->push_back({node.name, node.op, "int8", "", sqnr_db});
  }

  void norm(size_t n) {
    std::vector<ValueId> inputs;
    for (ValueId i : r_.from.nodes[n].inputs) inputs.push_back(float_form(i));
    emit_typed(n, std::move(inputs));
  }

  // Emits a node with the output that its readers want.
  void emit_typed(size_t n, std::vector<ValueId> inputs) {
    const Node& node = r_.from.nodes[n];
    Attrs attrs = node.attrs;
    attrs["dtype"] = std::string(u8_out_[n] ? "uint8" : "float32");
    std::optional<Quant> quant;
    if (u8_out_[n]) quant = quant_at(node.output);
    const ValueId now = r_.emit(node.op, std::move(inputs), std::move(attrs), node, "", quant);
    if (u8_out_[n])
      u8_[at(node.output)] = now;
    else
      r_.alias(node.output, now);
  }

  void byte_node(const Node& node) {
    std::vector<ValueId> inputs;
    for (ValueId i : node.inputs) inputs.push_back(byte_form(i));
    const Quant in = *r_.out.value(inputs[0]).quant;
    const Quant quant = keeps_scale(node) ? in : quant_at(node.output);
    if (has_table(node.op)) {
      inputs.push_back(r_.constant(node.name + ".table", table_of(node.op, in, quant)));
      u8_[at(node.output)] = r_.emit("lookup", std::move(inputs), {}, node, "", quant);
      return;
    }
    u8_[at(node.output)] = r_.emit(node.op, std::move(inputs), node.attrs, node, "", quant);
  }

  static TensorPtr table_of(const std::string& op, Quant in, Quant out) {
    auto table = std::make_shared<Tensor>(DType::u8, std::vector<int64_t>{256});
    for (int i = 0; i < 256; ++i) {
      const double y = apply(op, (i - in.zero_point) * static_cast<double>(in.scale));
      table->as<uint8_t>()[i] =
          static_cast<uint8_t>(std::clamp(std::nearbyint(y / out.scale) + out.zero_point, 0.0, 255.0));
    }
    return table;
  }
};

}  // namespace

Quant quant_of(Range range) {
  check(std::isfinite(range.lo) && std::isfinite(range.hi) && range.lo <= range.hi, "the range [", range.lo, ", ",
        range.hi, "] is not finite and ordered");
  const float lo = std::min(range.lo, 0.0f), hi = std::max(range.hi, 0.0f);
  const float scale = (hi - lo) / 255;
  if (!(scale >= std::numeric_limits<float>::min())) return {1, 0};
  return {scale, std::clamp(static_cast<int32_t>(std::nearbyint(-lo / scale)), 0, 255)};
}

Graph quantize(const Graph& graph, const Ranges& ranges, const QuantizeOptions& options,
               std::vector<QuantizeReport>* report) {
  for (const std::string& name : options.ignore)
    check(std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& n) { return n.name == name; }),
          "ignore names '", name, "', but the graph has no such node");
  return Quantizer(graph, ranges, options, report).run();
}

}  // namespace taille
