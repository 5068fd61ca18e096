// Images from [N, C, H, W] to [N, H, W, C]: convolution and pooling run channels-last, where a convolution reads
// contiguous channels and a 1x1 convolution is a plain matrix product. A permute is emitted only where a value is
// wanted in the order it does not have; element-wise work follows its inputs, axes are renamed where an op names them.
#include <algorithm>

#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

const List kToNhwc = {0, 2, 3, 1};
const List kToNchw = {0, 3, 1, 2};
constexpr size_t kNhwcOf[4] = {0, 3, 1, 2};  // where an NCHW axis stands in NHWC

bool is_elementwise(const std::string& op) {
  static const std::set<std::string, std::less<>> ops = {
      "neg",     "abs",  "exp", "log",  "sqrt",      "rsqrt",     "reciprocal",  "tanh",
      "sigmoid", "silu", "erf", "gelu", "gelu_tanh", "hardswish", "hardsigmoid", "clamp",
      "add",     "sub",  "mul", "div",  "minimum",   "maximum",   "pow"};
  return ops.contains(op);
}

class Layout {
 public:
  explicit Layout(const Graph& g) : r_(g), nhwc_(g.values.size(), kNone) {}

  Graph run() {
    for (const Node& node : r_.from.nodes) {
      if (!visit(node)) {
        for (ValueId i : node.inputs) nchw(i, node);
        r_.copy(node);
      }
    }
    static const Node output_node{"permute", "output", "", {}, kNone, {}};
    for (ValueId o : r_.from.outputs) nchw(o, output_node);
    return r_.finish();
  }

 private:
  Rewriter r_;
  std::vector<ValueId> nhwc_;  // the channels-last form of an old value, where it exists

  const Shape& shape(ValueId old) const { return r_.from.value(old).shape; }
  bool is_image(ValueId old) const { return old != kNone && shape(old).size() == 4; }
  // Made channels-last, and never asked for otherwise.
  bool only_nhwc(ValueId old) const { return nhwc_[static_cast<size_t>(old)] != kNone && !r_.is_mapped(old); }

  ValueId move(ValueId now, const List& axes, const Node& origin, const char* suffix) {
    const Value& v = r_.out.value(now);
    if (v.constant) return r_.constant(v.name + suffix, permuted(*v.constant, axes));
    return r_.emit("permute", {now}, {{"axes", axes}}, origin, suffix, v.quant);
  }

  ValueId nhwc(ValueId old, const Node& reader) {
    ValueId& now = nhwc_[static_cast<size_t>(old)];
    if (now == kNone) now = move(r_.map(old), kToNhwc, reader, ".nhwc");
    return now;
  }

  ValueId nchw(ValueId old, const Node& reader) {
    if (old == kNone) return kNone;
    if (only_nhwc(old)) r_.alias(old, move(nhwc_[static_cast<size_t>(old)], kToNchw, reader, ".nchw"));
    return r_.map(old);
  }

  bool made(const Node& node, ValueId now) {
    nhwc_[static_cast<size_t>(node.output)] = now;
    return true;
  }

  bool visit(const Node& node) {
    const std::string& op = node.op;
    if (op == "conv2d") return conv(node);
    if (op == "max_pool2d" || op == "avg_pool2d" || op == "adaptive_avg_pool2d") return pool(node);
    if (op == "linear") return linear(node);
    const bool follows =
        std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId i) { return is_image(i) && only_nhwc(i); });
    if (!follows) return false;
    if (is_elementwise(op)) return elementwise(node);
    if (op == "concat") return concat_(node);
    if (op == "pad") return pad(node);
    if (op == "slice") return slice(node);
    if (op == "mean") return mean(node);
    if (op == "reshape") return flatten(node);
    return false;
  }

  bool conv(const Node& node) {
    std::vector<ValueId> inputs = {nhwc(node.inputs[0], node), nhwc(node.inputs[1], node)};
    if (node.has_input(2)) inputs.push_back(r_.map(node.inputs[2]));
    return made(node, r_.emit("conv2d", std::move(inputs), with_layout(node), node, ""));
  }

  bool pool(const Node& node) {
    return made(node, r_.emit(node.op, {nhwc(node.inputs[0], node)}, with_layout(node), node, ""));
  }

  Attrs with_layout(const Node& node) const {
    Attrs attrs = node.attrs;
    attrs["layout"] = std::string("nhwc");
    return attrs;
  }

  // A broadcast operand: an image is moved, a constant of lower rank is filled up to 4 dimensions and moved.
  ValueId operand(ValueId old, const Node& node) {
    if (is_image(old)) return nhwc(old, node);
    const Value& v = r_.from.value(old);
    if (element_count(v.shape) == Dim(1)) return r_.map(old);
    Shape full(4 - v.shape.size(), Dim(1));
    full.insert(full.end(), v.shape.begin(), v.shape.end());
    if (!v.constant) {
      const ValueId wide = r_.emit("reshape", {r_.map(old)}, {{"shape", full}}, node, ".rank4");
      return move(wide, kToNhwc, node, ".nhwc");
    }
    List dims;
    for (const Dim& d : full) dims.push_back(d.constant());
    return r_.constant(v.name + ".nhwc", permuted(*reshaped(*v.constant, dims), kToNhwc));
  }

  bool elementwise(const Node& node) {
    if (!is_image(node.output)) return false;
    std::vector<ValueId> inputs;
    for (ValueId i : node.inputs) inputs.push_back(operand(i, node));
    return made(node, r_.emit(node.op, std::move(inputs), node.attrs, node, ""));
  }

  bool concat_(const Node& node) {
    std::vector<ValueId> inputs;
    for (ValueId i : node.inputs) inputs.push_back(nhwc(i, node));
    return made(node, r_.emit("concat", std::move(inputs), renamed_axis(node), node, ""));
  }

  Attrs renamed_axis(const Node& node) const {
    Attrs attrs = node.attrs;
    const int64_t axis = node.attr<int64_t>("axis");
    attrs["axis"] = static_cast<int64_t>(kNhwcOf[axis < 0 ? axis + 4 : axis]);
    return attrs;
  }

  bool slice(const Node& node) {
    return made(node, r_.emit("slice", {nhwc(node.inputs[0], node)}, renamed_axis(node), node, ""));
  }

  bool pad(const Node& node) {
    Attrs attrs = node.attrs;
    for (const char* key : {"before", "after"}) {
      const List& v = node.attr<List>(key);
      attrs[key] = List{v[0], v[2], v[3], v[1]};
    }
    return made(node, r_.emit("pad", {nhwc(node.inputs[0], node)}, std::move(attrs), node, ""));
  }

  // Reducing keeps the order of what is left unless channels and one image axis are left together.
  bool mean(const Node& node) {
    std::vector<char> reduced(4, 0);
    List axes;
    for (int64_t a : node.attr<List>("axes")) {
      reduced[static_cast<size_t>(a)] = 1;
      axes.push_back(static_cast<int64_t>(kNhwcOf[a]));
    }
    std::sort(axes.begin(), axes.end());
    Attrs attrs = node.attrs;
    attrs["axes"] = axes;
    const bool keepdim = node.attr<bool>("keepdim");
    if (!keepdim && !reduced[1] && !(reduced[2] && reduced[3])) return false;
    const ValueId now = r_.emit("mean", {nhwc(node.inputs[0], node)}, std::move(attrs), node, "");
    if (keepdim) return made(node, now);
    r_.alias(node.output, now);
    return true;
  }

  // [N,C,H,W] flattened for linear layers only: flatten [N,H,W,C] and reorder the columns of their weights instead.
  bool flatten(const Node& node) {
    const Shape& x = shape(node.inputs[0]);
    const Shape& to = shape(node.output);
    if (x[2] == Dim(1) && x[3] == Dim(1)) {  // no data to move
      const ValueId now = nhwc(node.inputs[0], node);
      r_.alias(node.output, r_.emit("reshape", {now}, node.attrs, node, ""));
      return true;
    }
    if (to.size() != 2 || to[0] != x[0] || !to[1].is_constant()) return false;
    for (const Node& reader : r_.from.nodes)
      for (size_t i = 0; i < reader.inputs.size(); ++i)
        if (reader.inputs[i] == node.output && (reader.op != "linear" || i != 0)) return false;
    for (ValueId o : r_.from.outputs)
      if (o == node.output) return false;
    flattened_[node.output] = {x[1].constant(), x[2].constant(), x[3].constant()};
    r_.alias(node.output, r_.emit("reshape", {nhwc(node.inputs[0], node)}, node.attrs, node, ""));
    return true;
  }

  bool linear(const Node& node) {
    auto it = flattened_.find(node.inputs[0]);
    if (it == flattened_.end() || !r_.from.is_constant(node.inputs[1])) return false;
    const auto [c, h, w] = it->second;
    const Value& weight = r_.from.value(node.inputs[1]);
    const int64_t rows = weight.constant->dims[0];
    const TensorPtr moved = permuted(*reshaped(*weight.constant, {rows, c, h, w}), kToNhwc);
    std::vector<ValueId> inputs = {r_.map(node.inputs[0]),
                                   r_.constant(weight.name + ".nhwc", reshaped(*moved, {rows, c * h * w}))};
    for (size_t i = 2; i < node.inputs.size(); ++i) inputs.push_back(nchw(node.inputs[i], node));
    r_.alias(node.output, r_.emit("linear", std::move(inputs), node.attrs, node, ""));
    return true;
  }

  struct Extents {
    int64_t c, h, w;
  };
  std::map<ValueId, Extents> flattened_;
};

}  // namespace

Graph pass_layout(const Graph& graph, const Evaluator&) { return Layout(graph).run(); }

}  // namespace taille
