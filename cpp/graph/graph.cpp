#include "graph/graph.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "graph/ops.h"

namespace taille {

namespace {

size_t bytes_of(DType type, const std::vector<int64_t>& dims) {
  int64_t bytes = static_cast<int64_t>(size_of(type));
  for (int64_t d : dims) {
    check(d >= 0, "a tensor dimension is negative: ", d);
    check(!__builtin_mul_overflow(bytes, d, &bytes) && bytes < (int64_t{1} << 46), "a tensor is too large");
  }
  return static_cast<size_t>(bytes);
}

// The int8 kernels are exact for weights in [-127, 127]; the quantiser makes no others, a file might.
void check_int8_weights(const Graph& g, const Node& node) {
  if ((node.op != "linear" && node.op != "conv2d") || !g.is_constant(node.inputs[1])) return;
  const Tensor& w = *g.value(node.inputs[1]).constant;
  if (w.dtype != DType::s8) return;
  const int8_t* values = w.as<int8_t>();
  check(std::find(values, values + w.count(), int8_t{-128}) == values + w.count(), node.op, " '", node.name,
        "': an int8 weight is -128; wanted [-127, 127]");
}

std::string label(const Node& node) { return concat(node.op, " '", node.name, "'"); }

}  // namespace

Tensor::Tensor(DType type, std::vector<int64_t> shape)
    : dtype(type), dims(std::move(shape)), data(bytes_of(dtype, dims)) {}

int64_t Tensor::count() const { return static_cast<int64_t>(data.size() / size_of(dtype)); }

ValueId Graph::add_input(std::string name, DType dtype, Shape shape) {
  check(!name.empty(), "a graph input needs a name");
  for (ValueId i : inputs) check(value(i).name != name, "two graph inputs are named '", name, "'");
  check(!is_half(dtype), "the graph input '", name, "' is ", name_of(dtype), ", which only weights may be");
  values.push_back({std::move(name), dtype, std::move(shape), {}, nullptr});
  inputs.push_back(static_cast<ValueId>(values.size() - 1));
  return inputs.back();
}

ValueId Graph::add_constant(std::string name, TensorPtr tensor) {
  Shape shape(tensor->dims.begin(), tensor->dims.end());
  values.push_back({std::move(name), tensor->dtype, std::move(shape), {}, std::move(tensor)});
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_node(Node node, std::optional<Quant> quant) {
  Inferred out = infer(*this, node);
  check((out.dtype == DType::u8) == quant.has_value(), label(node), ": a uint8 output needs a scale, and only that");
  values.push_back({node.name, out.dtype, std::move(out.shape), quant, nullptr});
  node.output = static_cast<ValueId>(values.size() - 1);
  nodes.push_back(std::move(node));
  return nodes.back().output;
}

void Graph::add_output(std::string name, ValueId id) {
  check(id >= 0 && static_cast<size_t>(id) < values.size(), "graph output '", name, "': no value ", id);
  outputs.push_back(id);
  output_names.push_back(std::move(name));
}

std::vector<int32_t> Graph::use_counts() const {
  std::vector<int32_t> uses(values.size(), 0);
  for (const Node& node : nodes)
    for (ValueId i : node.inputs)
      if (i != kNone) ++uses[static_cast<size_t>(i)];
  for (ValueId o : outputs) ++uses[static_cast<size_t>(o)];
  return uses;
}

std::vector<int32_t> Graph::producers() const {
  std::vector<int32_t> by(values.size(), -1);
  for (size_t n = 0; n < nodes.size(); ++n) by[static_cast<size_t>(nodes[n].output)] = static_cast<int32_t>(n);
  return by;
}

std::vector<std::string> Graph::symbols() const {
  std::vector<std::string> out;
  for (ValueId i : inputs)
    for (const Dim& d : value(i).shape)
      for (std::string& s : d.symbols())
        if (std::find(out.begin(), out.end(), s) == out.end()) out.push_back(std::move(s));
  return out;
}

void Graph::validate() const {
  const auto count = static_cast<ValueId>(values.size());
  auto in_range = [&](ValueId id) { return id >= 0 && id < count; };
  check(outputs.size() == output_names.size(), "the graph has ", outputs.size(), " outputs but ", output_names.size(),
        " output names");
  check(!outputs.empty(), "the graph has no output");
  std::vector<char> ready(values.size(), 0);
  for (size_t v = 0; v < values.size(); ++v) ready[v] = values[v].constant != nullptr;
  for (ValueId i : inputs) {
    check(in_range(i) && !ready[static_cast<size_t>(i)], "graph input ", i, " is not a free value");
    check(!is_half(value(i).dtype), "graph input ", i, " is ", name_of(value(i).dtype), ", which only weights may be");
    ready[static_cast<size_t>(i)] = 1;
  }
  const std::vector<std::string> known = symbols();
  for (const Node& node : nodes) {
    for (ValueId i : node.inputs)
      check(i == kNone || (in_range(i) && ready[static_cast<size_t>(i)]), label(node), ": input value ", i,
            " is not computed before it");
    check(in_range(node.output) && !ready[static_cast<size_t>(node.output)], label(node), ": output value ",
          node.output, " is out of range or made twice");
    Node copy = node;
    const Inferred out = infer(*this, copy);
    const Value& recorded = value(node.output);
    check(out.dtype == recorded.dtype && out.shape == recorded.shape, label(node), " gives ", name_of(out.dtype), " ",
          text_of(out.shape), " but ", name_of(recorded.dtype), " ", text_of(recorded.shape), " is recorded");
    check((out.dtype == DType::u8) == recorded.quant.has_value(), label(node), ": wrong quantisation of the output");
    for (const Dim& d : out.shape)
      for (const std::string& s : d.symbols())
        check(std::find(known.begin(), known.end(), s) != known.end(), label(node), ": dimension '", s,
              "' belongs to no input");
    check(copy.attrs.size() == node.attrs.size(), label(node), ": an attribute is missing");
    check_int8_weights(*this, node);
    ready[static_cast<size_t>(node.output)] = 1;
  }
  for (ValueId o : outputs) {
    check(in_range(o) && ready[static_cast<size_t>(o)], "graph output ", o, " is not computed");
    check(!is_half(value(o).dtype), "graph output ", o, " is ", name_of(value(o).dtype), ", which only weights may be");
  }
}

std::string text_of(const Attr& attr) {
  struct Visitor {
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(int64_t i) const { return std::to_string(i); }
    std::string operator()(double d) const { return concat(d); }
    std::string operator()(const std::string& s) const { return s; }
    std::string operator()(const std::vector<int64_t>& v) const { return text_of(Shape(v.begin(), v.end())); }
    std::string operator()(const Shape& s) const { return text_of(s); }
  };
  return std::visit(Visitor{}, attr);
}

std::string Graph::dump() const {
  std::ostringstream out;
  auto describe = [&](ValueId id) {
    const Value& v = value(id);
    out << name_of(v.dtype) << " " << text_of(v.shape);
    if (v.quant) out << " scale " << v.quant->scale << " zero " << v.quant->zero_point;
  };
  for (ValueId i : inputs) {
    out << "%" << i << " = input '" << value(i).name << "' : ";
    describe(i);
    out << "\n";
  }
  for (const Node& node : nodes) {
    out << "%" << node.output << " = " << node.op << "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      out << (i ? ", " : "");
      if (id == kNone)
        out << "-";
      else if (is_constant(id))
        out << "const '" << value(id).name << "' " << text_of(value(id).shape);
      else
        out << "%" << id;
    }
    out << ")";
    for (const auto& [key, attr] : node.attrs) out << " " << key << "=" << text_of(attr);
    out << " : ";
    describe(node.output);
    out << "  # " << node.name << (node.source.empty() ? "" : " @ ") << node.source << "\n";
  }
  for (size_t i = 0; i < outputs.size(); ++i) out << "output '" << output_names[i] << "' = %" << outputs[i] << "\n";
  return out.str();
}

}  // namespace taille
