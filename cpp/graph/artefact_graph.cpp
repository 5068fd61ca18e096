// The graph as JSON, both ways. artefact.cpp has the specification.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "base/error.h"
#include "graph/artefact_format.h"
#include "graph/json.h"
#include "graph/ops.h"

namespace taille::artefact {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// ---- writing ----

void write_ids(JsonWriter& out, const std::vector<ValueId>& ids) {
  out.begin_array();
  for (ValueId id : ids) out.integer(id);
  out.end_array();
}

void write_shape(JsonWriter& out, const Shape& shape) {
  out.begin_array();
  for (const Dim& d : shape) {
    if (d.is_constant())
      out.integer(d.constant());
    else
      out.string(d.text());
  }
  out.end_array();
}

void write_real(JsonWriter& out, double number) {
  if (std::isfinite(number))
    out.number(number);
  else
    out.string(std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
}

struct AttrWriter {
  JsonWriter& out;
  void operator()(bool b) const {
    out.string("B");
    out.boolean(b);
  }
  void operator()(int64_t i) const {
    out.string("I");
    out.integer(i);
  }
  void operator()(double d) const {
    out.string("F");
    write_real(out, d);
  }
  void operator()(const std::string& s) const {
    out.string("S");
    out.string(s);
  }
  void operator()(const std::vector<int64_t>& list) const {
    out.string("L");
    out.begin_array();
    for (int64_t i : list) out.integer(i);
    out.end_array();
  }
  void operator()(const Shape& shape) const {
    out.string("D");
    write_shape(out, shape);
  }
};

void write_value(JsonWriter& out, const Value& v, int64_t block_rows) {
  out.begin_object();
  out.key("name");
  out.string(v.name);
  out.key("dtype");
  out.string(name_of(v.dtype));
  out.key("shape");
  write_shape(out, v.shape);
  if (v.quant) {
    out.key("quant");
    out.begin_array();
    out.number(v.quant->scale);  // as a double: read back as one and narrowed, it is the same float
    out.integer(v.quant->zero_point);
    out.end_array();
  }
  if (v.constant) {
    out.key("constant");
    out.boolean(true);
  }
  if (block_rows > 0) {
    out.key("blocks");
    out.integer(block_rows);
  }
  out.end_object();
}

void write_node(JsonWriter& out, const Node& node) {
  out.begin_object();
  out.key("op");
  out.string(node.op);
  out.key("name");
  out.string(node.name);
  if (!node.source.empty()) {
    out.key("source");
    out.string(node.source);
  }
  out.key("inputs");
  write_ids(out, node.inputs);
  out.key("output");
  out.integer(node.output);
  Attrs attrs = node.attrs;
  std::erase_if(attrs, [&](const auto& a) { return is_default(node.op, a.first, a.second); });
  if (!attrs.empty()) {
    out.key("attrs");
    out.begin_object();
    for (const auto& [key, attr] : attrs) {
      out.key(key);
      out.begin_array();
      std::visit(AttrWriter{out}, attr);
      out.end_array();
    }
    out.end_object();
  }
  out.end_object();
}

// ---- reading: each throws std::invalid_argument, `what` names the place ----

template <class T>
const T& want(const Json& json, std::string_view what, const char* kind) {
  const T* found = json.get_if<T>();
  check(found != nullptr, what, " is not ", kind);
  return *found;
}

const Json& member(const Json& object, std::string_view key, std::string_view what) {
  const Json* found = object.find(key);
  check(found != nullptr, what, " has no \"", key, "\"");
  return *found;
}

// Without control characters, as every string of the graph; so messages can quote it.
const std::string& text_of(const Json& json, std::string_view what) {
  const std::string& text = want<std::string>(json, what, "a string");
  const bool plain = std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  check(plain, what, " holds a control character");
  return text;
}

const Json::Array& array_of(const Json& json, std::string_view what) {
  return want<Json::Array>(json, what, "an array");
}

// The object's members, all of which must be known: version 1 has no others, so another one is damage.
const Json::Object& object_of(const Json& json, std::string_view what, std::initializer_list<std::string_view> known) {
  const auto& members = want<Json::Object>(json, what, "an object");
  for (const JsonMember& m : members)
    check(std::find(known.begin(), known.end(), m.key) != known.end(), what, " has an unknown member \"",
          printable(m.key), "\"");
  return members;
}

ValueId id_of(const Json& json, std::string_view what, size_t values) {
  const auto id = want<int64_t>(json, what, "a value id");
  check(id >= kNone && id < static_cast<int64_t>(values), what, ": there is no value ", id);
  return static_cast<ValueId>(id);
}

std::vector<ValueId> ids_of(const Json& json, std::string_view what, size_t values) {
  std::vector<ValueId> ids;
  for (const Json& item : array_of(json, what)) ids.push_back(id_of(item, what, values));
  return ids;
}

double real_of(const Json& json, std::string_view what) {
  if (const auto* real = json.get_if<double>()) return *real;
  if (const auto* integer = json.get_if<int64_t>()) return static_cast<double>(*integer);
  const std::string& word = want<std::string>(json, what, "a number");
  if (word == "inf") return kInfinity;
  if (word == "-inf") return -kInfinity;
  check(word == "nan", what, " is not a number");
  return std::numeric_limits<double>::quiet_NaN();
}

Shape shape_of(const Json& json, std::string_view what) {
  Shape shape;
  for (const Json& item : array_of(json, what)) {
    if (const auto* extent = item.get_if<int64_t>())
      shape.emplace_back(*extent);
    else
      shape.push_back(Dim::parse(text_of(item, what)));
  }
  return shape;
}

Attr attr_of(const Json& json, std::string_view what) {
  const Json::Array& pair = array_of(json, what);
  check(pair.size() == 2, what, " is not [type, value]");
  const std::string& type = text_of(pair[0], what);
  const Json& value = pair[1];
  if (type == "B") return want<bool>(value, what, "true or false");
  if (type == "I") return want<int64_t>(value, what, "an integer");
  if (type == "F") return real_of(value, what);
  if (type == "S") return text_of(value, what);
  if (type == "D") return shape_of(value, what);
  check(type == "L", what, " has the unknown type \"", printable(type), "\"");
  std::vector<int64_t> list;
  for (const Json& item : array_of(value, what)) list.push_back(want<int64_t>(item, what, "a list of integers"));
  return list;
}

// The tensor of a value that is stored in blocks.
TensorPtr expanded(const Value& v, const Tensor& packed, const Json& rows, const std::string& what) {
  check(may_have_blocks(v.dtype), what, " is ", name_of(v.dtype), " and has blocks; only int8 and floats have");
  std::vector<int64_t> dims;
  for (const Dim& d : v.shape) {
    check(d.is_constant(), what, " has blocks and the dimension ", printable(d.text()));
    dims.push_back(d.constant());
  }
  try {
    return unpack_blocks(packed, v.dtype, dims, want<int64_t>(rows, what + " blocks", "an integer"));
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(concat("the tensor '", printable(v.name), "' ", e.what()));
  }
}

Value value_of(const Json& json, const std::string& what, TensorsByName& tensors, int64_t& block_rows) {
  object_of(json, what, {"name", "dtype", "shape", "quant", "constant", "blocks"});
  Value v;
  v.name = text_of(member(json, "name", what), what + " name");
  v.dtype = dtype_from_name(text_of(member(json, "dtype", what), what + " dtype"));
  v.shape = shape_of(member(json, "shape", what), what + " shape");
  if (const Json* quant = json.find("quant")) {
    const Json::Array& pair = array_of(*quant, what + " quant");
    check(pair.size() == 2, what, " quant is not [scale, zero point]");
    const auto zero = want<int64_t>(pair[1], what + " zero point", "an integer");
    check(zero >= 0 && zero <= 255, what, " has the zero point ", zero, "; wanted 0 .. 255");
    v.quant = Quant{static_cast<float>(real_of(pair[0], what + " scale")), static_cast<int32_t>(zero)};
  }
  const Json* constant = json.find("constant");
  const Json* rows = json.find("blocks");
  check(constant != nullptr || rows == nullptr, what, " has blocks and is no constant");
  if (constant == nullptr) return v;
  check(want<bool>(*constant, what + " constant", "true"), what, " says \"constant\": false; it leaves the member out");
  const auto tensor = tensors.find(v.name);
  check(tensor != tensors.end(), what, ": there is no tensor '", printable(v.name), "'");
  v.constant = rows == nullptr ? std::move(tensor->second) : expanded(v, *tensor->second, *rows, what);
  if (rows != nullptr) block_rows = *rows->get_if<int64_t>();
  tensors.erase(tensor);
  return v;
}

Node node_of(const Json& json, const std::string& what, size_t values) {
  object_of(json, what, {"op", "name", "source", "inputs", "output", "attrs"});
  Node node;
  node.op = text_of(member(json, "op", what), what + " op");
  node.name = text_of(member(json, "name", what), what + " name");
  if (const Json* source = json.find("source")) node.source = text_of(*source, what + " source");
  node.inputs = ids_of(member(json, "inputs", what), what + " inputs", values);
  node.output = id_of(member(json, "output", what), what + " output", values);
  if (const Json* attrs = json.find("attrs"))
    for (const JsonMember& m : want<Json::Object>(*attrs, what + " attrs", "an object"))
      node.attrs.emplace(m.key, attr_of(m.value, concat(what, " attribute '", printable(m.key), "'")));
  return node;
}

}  // namespace

std::string graph_to_json(const Graph& graph, const std::vector<StoredTensor>& stored) {
  const BlockRows block_rows = block_rows_of(graph, stored);
  JsonWriter out;
  out.begin_object();
  out.key("values");
  out.begin_array();
  for (size_t v = 0; v < graph.values.size(); ++v) write_value(out, graph.values[v], block_rows[v]);
  out.end_array();
  out.key("nodes");
  out.begin_array();
  for (const Node& node : graph.nodes) write_node(out, node);
  out.end_array();
  out.key("inputs");
  write_ids(out, graph.inputs);
  out.key("outputs");
  write_ids(out, graph.outputs);
  out.key("output_names");
  out.begin_array();
  for (const std::string& name : graph.output_names) out.string(name);
  out.end_array();
  out.key("output_structure");
  out.string(graph.output_structure);
  out.end_object();
  return out.text();
}

Graph graph_from_json(std::string_view text, TensorsByName tensors, BlockRows& block_rows) {
  const Json root = parse_json(text);
  const std::string what = "the graph";
  object_of(root, what, {"values", "nodes", "inputs", "outputs", "output_names", "output_structure"});
  const Json::Array& values = array_of(member(root, "values", what), "values");
  const Json::Array& nodes = array_of(member(root, "nodes", what), "nodes");
  check(values.size() <= kMaxValues, "the graph has more than ", kMaxValues, " values");
  check(nodes.size() <= values.size(), "the graph has more nodes than values");

  Graph graph;
  block_rows.assign(values.size(), 0);
  for (const Json& v : values) {
    const size_t id = graph.values.size();
    graph.values.push_back(value_of(v, concat("value ", id), tensors, block_rows[id]));
  }
  check(tensors.empty(), "no value is the tensor '", tensors.empty() ? "" : printable(tensors.begin()->first), "'");
  for (const Json& n : nodes)
    graph.nodes.push_back(node_of(n, concat("node ", graph.nodes.size()), graph.values.size()));
  graph.inputs = ids_of(member(root, "inputs", what), "inputs", graph.values.size());
  graph.outputs = ids_of(member(root, "outputs", what), "outputs", graph.values.size());
  for (const Json& name : array_of(member(root, "output_names", what), "output_names"))
    graph.output_names.push_back(text_of(name, "an output name"));
  graph.output_structure = text_of(member(root, "output_structure", what), "output_structure");
  return graph;
}

}  // namespace taille::artefact
