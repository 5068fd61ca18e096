// Drops nodes that change nothing and merges chains of reshapes and of permutes.
#include "graph/optimize.h"
#include "graph/rewrite.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

bool is_identity(const List& axes) {
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<int64_t>(i)) return false;
  return true;
}

// A permute that keeps the order of all dimensions longer than 1 moves no data.
bool moves_nothing(const List& axes, const Shape& from) {
  int64_t last = -1;
  for (int64_t a : axes) {
    if (from[static_cast<size_t>(a)] == Dim(1)) continue;
    if (a < last) return false;
    last = a;
  }
  return true;
}

bool is_zero(const Value& v) {
  if (!v.constant || v.constant->dtype != DType::s64) return false;
  for (int64_t i = 0; i < v.constant->count(); ++i)
    if (v.constant->as<int64_t>()[i] != 0) return false;
  return true;
}

class Simplify {
 public:
  explicit Simplify(const Graph& g) : r_(g) {}

  Graph run() {
    for (const Node& node : r_.from.nodes)
      if (!visit(node)) r_.copy(node);
    return r_.finish();
  }

 private:
  Rewriter r_;

  const Value& in(const Node& node) const { return r_.from.value(node.inputs[0]); }
  const Value& out(const Node& node) const { return r_.from.value(node.output); }

  bool visit(const Node& node) {
    const std::string& op = node.op;
    if (op == "reshape") return reshape(node, r_.map(node.inputs[0]));
    if (op == "permute") return permute(node);
    if (op == "expand" || op == "slice" || op == "cast") return same(node);
    if (op == "add" && is_zero(r_.from.value(node.inputs[1])) && in(node).shape == out(node).shape)
      return pass_on(node, r_.map(node.inputs[0]));
    return false;
  }

  bool pass_on(const Node& node, ValueId now) {
    r_.alias(node.output, now);
    return true;
  }

  bool same(const Node& node) {
    if (in(node).dtype != out(node).dtype || in(node).shape != out(node).shape) return false;
    if (node.op == "slice" && (node.attr<Shape>("start")[0] != Dim(0) || node.attr<int64_t>("step") != 1)) return false;
    return pass_on(node, r_.map(node.inputs[0]));
  }

  bool reshape(const Node& node, ValueId x) {
    if (const Node* p = r_.producer(x); p && p->op == "reshape") x = p->inputs[0];
    const Shape& to = out(node).shape;
    if (r_.out.value(x).shape == to) return pass_on(node, x);
    return pass_on(node, r_.emit("reshape", {x}, {{"shape", to}}, node, "", out(node).quant));
  }

  bool permute(const Node& node) {
    List axes = node.attr<List>("axes");
    ValueId x = r_.map(node.inputs[0]);
    if (const Node* p = r_.producer(x); p && p->op == "permute") {
      const List inner = p->attr<List>("axes");
      for (int64_t& a : axes) a = inner[static_cast<size_t>(a)];
      x = p->inputs[0];
    }
    if (is_identity(axes)) return pass_on(node, x);
    if (moves_nothing(axes, r_.out.value(x).shape)) return reshape(node, x);
    return pass_on(node, r_.emit("permute", {x}, {{"axes", axes}}, node, "", out(node).quant));
  }
};

}  // namespace

Graph pass_simplify(const Graph& graph, const Evaluator&) { return Simplify(graph).run(); }

}  // namespace taille
