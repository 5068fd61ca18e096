// Inside of ops.cpp: how an op is described, and the families that describe them.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "graph/ops.h"

namespace taille {

// What an inference rule sees: the node with its attributes complete, and its inputs.
class InferContext {
 public:
  InferContext(const Graph& g, const Node& n) : graph(g), node(n) {}
  const Graph& graph;
  const Node& node;

  const Value& in(size_t i) const { return graph.value(node.inputs[i]); }
  bool has(size_t i) const { return node.has_input(i); }
  int64_t integer(std::string_view key) const { return node.attr<int64_t>(key); }
  double real(std::string_view key) const { return node.attr<double>(key); }
  bool flag(std::string_view key) const { return node.attr<bool>(key); }
  const std::string& text(std::string_view key) const { return node.attr<std::string>(key); }
  const std::vector<int64_t>& list(std::string_view key) const { return node.attr<std::vector<int64_t>>(key); }
  const Shape& dims(std::string_view key) const { return node.attr<Shape>(key); }

  template <class... Parts>
  void want(bool ok, const Parts&... parts) const {
    if (!ok) throw std::invalid_argument(concat(node.op, " '", node.name, "': ", parts...));
  }
  void want_dtype(size_t i, std::initializer_list<DType> allowed) const;
  // An axis in [-rank, rank) made non-negative.
  size_t axis(std::string_view key, size_t rank) const;
  bool channels_last() const;  // the layout attribute
};

struct AttrSpec {
  const char* key;
  Attr example;           // its type
  bool required = false;  // else `example` is the default
};

struct OpSpec {
  const char* op;
  size_t required_inputs;
  size_t max_inputs;
  std::vector<AttrSpec> attrs;
  Inferred (*infer)(const InferContext&);
};

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr size_t kMaxInputs = 4096;

std::vector<OpSpec> layer_ops();
std::vector<OpSpec> elementwise_ops();
std::vector<OpSpec> movement_ops();

}  // namespace taille
