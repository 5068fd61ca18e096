#include "graph/ops.h"

#include <algorithm>
#include <map>

#include "graph/op_spec.h"

namespace taille {

namespace {

const std::map<std::string, OpSpec, std::less<>>& registry() {
  static const auto* ops = [] {
    auto* map = new std::map<std::string, OpSpec, std::less<>>;
    for (auto family : {layer_ops, elementwise_ops, movement_ops})
      for (OpSpec& spec : family()) {
        std::string op = spec.op;
        map->emplace(std::move(op), std::move(spec));
      }
    return map;
  }();
  return *ops;
}

const char* type_name(const Attr& attr) {
  static constexpr const char* names[] = {"a bool", "an integer", "a number", "a string", "a list of integers", "dims"};
  return names[attr.index()];
}

void check_attrs(const OpSpec& spec, Node& node) {
  auto fail = [&](const auto&... parts) {
    throw std::invalid_argument(concat(node.op, " '", node.name, "': ", parts...));
  };
  for (const auto& [key, attr] : node.attrs) {
    auto known = std::find_if(spec.attrs.begin(), spec.attrs.end(), [&](const AttrSpec& s) { return s.key == key; });
    if (known == spec.attrs.end()) fail("unknown attribute '", key, "'");
    if (known->example.index() != attr.index())
      fail("attribute '", key, "' is ", type_name(attr), "; wanted ", type_name(known->example));
    if (const double* d = std::get_if<double>(&attr); d && std::isnan(*d)) fail("attribute '", key, "' is NaN");
  }
  for (const AttrSpec& s : spec.attrs) {
    if (node.attrs.contains(s.key)) continue;
    if (s.required) fail("attribute '", s.key, "' is missing");
    node.attrs.emplace(s.key, s.example);
  }
}

}  // namespace

void InferContext::want_dtype(size_t i, std::initializer_list<DType> allowed) const {
  if (!has(i)) return;
  for (DType t : allowed)
    if (in(i).dtype == t) return;
  std::string names;
  for (DType t : allowed) names += (names.empty() ? "" : " or ") + std::string(name_of(t));
  want(false, "input ", i, " is ", name_of(in(i).dtype), "; wanted ", names);
}

size_t InferContext::axis(std::string_view key, size_t rank) const {
  const int64_t a = integer(key), r = static_cast<int64_t>(rank);
  want(a >= -r && a < r, key, " ", a, " is outside rank ", rank);
  return static_cast<size_t>(a < 0 ? a + r : a);
}

bool InferContext::channels_last() const {
  const std::string& layout = text("layout");
  want(layout == "nchw" || layout == "nhwc", "layout '", layout, "'; wanted nchw or nhwc");
  return layout == "nhwc";
}

static const OpSpec& find_op(const Node& node) {
  auto it = registry().find(node.op);
  check(it != registry().end(), "unknown op '", node.op, "' (node '", node.name, "')");
  return it->second;
}

bool reads_weight(std::string_view op, size_t input) {
  return op == "embedding" ? input == 0 : (op == "linear" || op == "conv2d") && input == 1;
}

Inferred infer(const Graph& graph, Node& node) {
  const OpSpec& spec = find_op(node);
  check_attrs(spec, node);
  InferContext c(graph, node);
  c.want(node.inputs.size() <= spec.max_inputs, "has ", node.inputs.size(), " inputs; at most ", spec.max_inputs);
  for (size_t i = 0; i < spec.required_inputs; ++i) c.want(c.has(i), "input ", i, " is missing");
  for (ValueId id : node.inputs)
    c.want(id == kNone || (id >= 0 && static_cast<size_t>(id) < graph.values.size()), "no value ", id);
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (c.has(i)) c.want(c.in(i).shape.size() <= 8, "input ", i, " has more than 8 dimensions");
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (c.has(i) && is_half(c.in(i).dtype))
      c.want(reads_weight(node.op, i) && c.in(i).constant, "input ", i, " is ", name_of(c.in(i).dtype),
             ", which only constant weights of linear and conv2d and tables of embedding may be");
  Inferred out = spec.infer(c);
  c.want(out.shape.size() <= 8, "the output has more than 8 dimensions");
  return out;
}

bool is_norm(std::string_view op) { return op == "layer_norm" || op == "rms_norm"; }

bool attr_is_dims(std::string_view op, std::string_view key) {
  auto it = registry().find(op);
  if (it == registry().end()) return false;
  for (const AttrSpec& s : it->second.attrs)
    if (key == s.key) return std::holds_alternative<Shape>(s.example);
  return false;
}

bool is_default(std::string_view op, std::string_view key, const Attr& attr) {
  auto it = registry().find(op);
  if (it == registry().end()) return false;
  for (const AttrSpec& s : it->second.attrs) {
    if (s.required || key != s.key || s.example != attr) continue;
    const double* number = std::get_if<double>(&attr);
    return !number || std::signbit(*number) == std::signbit(std::get<double>(s.example));
  }
  return false;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const auto& [op, spec] : registry()) names.push_back(op);
  return names;
}

Shape broadcast(const Shape& a, const Shape& b) {
  const size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {
    const Dim da = i + a.size() >= rank ? a[i + a.size() - rank] : Dim(1);
    const Dim db = i + b.size() >= rank ? b[i + b.size() - rank] : Dim(1);
    check(da == db || da == Dim(1) || db == Dim(1), "shapes ", text_of(a), " and ", text_of(b), " do not broadcast");
    out[i] = da == Dim(1) ? db : da;
  }
  return out;
}

}  // namespace taille
