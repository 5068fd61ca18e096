#include "graph/rewrite.h"

#include <cstring>

#include "base/error.h"
#include "graph/ops.h"
#include "kernels/movement.h"

namespace taille {

Rewriter::Rewriter(const Graph& g) : from(g), uses(g.use_counts()), map_(g.values.size(), kNone) {
  out.output_structure = g.output_structure;
  for (ValueId i : g.inputs) {
    const Value& v = g.value(i);
    alias(i, out.add_input(v.name, v.dtype, v.shape));
    names_.insert(v.name);
  }
  for (const Node& node : g.nodes) names_.insert(node.name);
}

ValueId Rewriter::map(ValueId old) {
  if (old == kNone) return kNone;
  ValueId& now = map_[static_cast<size_t>(old)];
  if (now == kNone) {
    const Value& v = from.value(old);
    check(v.constant != nullptr, "value '", v.name, "' is read before it is made");
    out.values.push_back(v);
    names_.insert(v.name);
    now = static_cast<ValueId>(out.values.size() - 1);
  }
  return now;
}

std::string Rewriter::unique(const std::string& name) {
  std::string result = name;
  for (int i = 2; !names_.insert(result).second; ++i) result = concat(name, ".", i);
  return result;
}

ValueId Rewriter::copy(const Node& node) {
  Node now = node;
  for (ValueId& i : now.inputs) i = map(i);
  const ValueId id = out.add_node(std::move(now), from.value(node.output).quant);
  alias(node.output, id);
  return id;
}

ValueId Rewriter::emit(std::string op, std::vector<ValueId> inputs, Attrs attrs, const Node& origin,
                       const std::string& suffix, std::optional<Quant> quant) {
  Node node;
  node.op = std::move(op);
  node.name = suffix.empty() ? origin.name : unique(origin.name + suffix);
  node.source = origin.source;
  node.inputs = std::move(inputs);
  node.attrs = std::move(attrs);
  return out.add_node(std::move(node), quant);
}

ValueId Rewriter::constant(const std::string& name, TensorPtr tensor) {
  return out.add_constant(unique(name), std::move(tensor));
}

ValueId Rewriter::scalar(const std::string& name, float value) {
  auto t = std::make_shared<Tensor>(DType::f32, std::vector<int64_t>{1});
  *t->as<float>() = value;
  return constant(name, std::move(t));
}

Node* Rewriter::producer(ValueId now) {
  // The nodes asked for are almost always recent.
  for (size_t i = out.nodes.size(); i-- > 0;)
    if (out.nodes[i].output == now) return &out.nodes[i];
  return nullptr;
}

void Rewriter::move_last(ValueId now) {
  for (size_t i = out.nodes.size(); i-- > 0;) {
    if (out.nodes[i].output != now) continue;
    Node node = std::move(out.nodes[i]);
    out.nodes.erase(out.nodes.begin() + static_cast<int64_t>(i));
    out.nodes.push_back(std::move(node));
    return;
  }
}

Graph Rewriter::finish() {
  for (size_t i = 0; i < from.outputs.size(); ++i) out.add_output(from.output_names[i], map(from.outputs[i]));
  return without_dead_code(out);
}

Graph without_dead_code(const Graph& g) {
  std::vector<char> live(g.values.size(), 0);
  auto keep = [&](ValueId id) {
    if (id != kNone) live[static_cast<size_t>(id)] = 1;
  };
  for (ValueId o : g.outputs) keep(o);
  for (size_t n = g.nodes.size(); n-- > 0;)
    if (live[static_cast<size_t>(g.nodes[n].output)])
      for (ValueId i : g.nodes[n].inputs) keep(i);
  for (ValueId i : g.inputs) keep(i);

  Graph out;
  out.output_structure = g.output_structure;
  out.output_names = g.output_names;
  std::vector<ValueId> now(g.values.size(), kNone);
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (!live[v]) continue;
    now[v] = static_cast<ValueId>(out.values.size());
    out.values.push_back(g.values[v]);
  }
  auto moved = [&](ValueId id) { return id == kNone ? kNone : now[static_cast<size_t>(id)]; };
  for (ValueId i : g.inputs) out.inputs.push_back(moved(i));
  for (ValueId o : g.outputs) out.outputs.push_back(moved(o));
  for (const Node& node : g.nodes) {
    if (!live[static_cast<size_t>(node.output)]) continue;
    out.nodes.push_back(node);
    for (ValueId& i : out.nodes.back().inputs) i = moved(i);
    out.nodes.back().output = moved(node.output);
  }
  return out;
}

TensorPtr permuted(const Tensor& t, const std::vector<int64_t>& axes) {
  const size_t rank = t.dims.size();
  std::vector<int64_t> dims(rank), strides(rank, 1);
  for (size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * t.dims[i];
  for (size_t i = 0; i < rank; ++i) dims[i] = t.dims[static_cast<size_t>(axes[i])];
  auto out = std::make_shared<Tensor>(t.dtype, dims);
  CopyArgs args{};
  args.in = t.data.data();
  args.out = out->data.data();
  args.element_size = static_cast<int64_t>(size_of(t.dtype));
  args.rank = static_cast<int>(rank);
  int64_t step = 1;
  for (size_t i = rank; i-- > 0;) {
    args.dims[i] = dims[i];
    args.in_strides[i] = strides[static_cast<size_t>(axes[i])];
    args.out_strides[i] = step;
    step *= dims[i];
  }
  select_kernel(copy_table(), Isa::portable).run(args);
  return out;
}

TensorPtr reshaped(const Tensor& t, std::vector<int64_t> dims) {
  auto out = std::make_shared<Tensor>(t.dtype, std::move(dims));
  check(out->data.size() == t.data.size(), "a constant is reshaped to another size");
  if (t.data.size() > 0) std::memcpy(out->data.data(), t.data.data(), t.data.size());
  return out;
}

}  // namespace taille
