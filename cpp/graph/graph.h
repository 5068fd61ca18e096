// The graph: values (tensors), nodes (one op, one output each) in topological order, named inputs and outputs.
// It is plain data. Passes rewrite it, the artefact stores it, the runtime plans and runs it. What each op means,
// takes and gives is in ops.h; every node that enters the graph is checked and shape-inferred there.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/buffer.h"
#include "base/dtype.h"
#include "graph/dim.h"

namespace taille {

using ValueId = int32_t;
inline constexpr ValueId kNone = -1;                                         // an optional input that is not there
inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();  // hi (and, negative, lo) without a clamp

// real = (stored - zero_point) * scale
struct Quant {
  float scale = 0;
  int32_t zero_point = 0;

  bool operator==(const Quant&) const = default;
};

// A constant: dense, row-major.
struct Tensor {
  DType dtype;
  std::vector<int64_t> dims;
  Buffer data;

  Tensor(DType type, std::vector<int64_t> shape);  // zeroed; throws std::invalid_argument on a negative or huge size
  int64_t count() const;
  template <class T>
  const T* as() const {
    return data.data<T>();
  }
  template <class T>
  T* as() {
    return data.data<T>();
  }
};
using TensorPtr = std::shared_ptr<const Tensor>;

struct Value {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::optional<Quant> quant;  // u8 only
  TensorPtr constant;          // null unless it is one
};

using Attr = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, Shape>;
using Attrs = std::map<std::string, Attr, std::less<>>;

struct Node {
  std::string op;
  std::string name;    // the module path it came from ("layer1.0.conv1"), unique in the graph
  std::string source;  // "file.py:line", or empty
  std::vector<ValueId> inputs;
  ValueId output = kNone;
  Attrs attrs;

  // The attribute, which must be there with that type (ops.h has checked it).
  template <class T>
  const T& attr(std::string_view key) const {
    return std::get<T>(attrs.find(key)->second);
  }
  bool has_input(size_t i) const { return i < inputs.size() && inputs[i] != kNone; }
};

class Graph {
 public:
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<std::string> output_names;    // as many as outputs
  std::string output_structure = "single";  // "single", "tuple" or "dict": what predict gives back

  ValueId add_input(std::string name, DType dtype, Shape shape);
  ValueId add_constant(std::string name, TensorPtr tensor);
  // Checks and infers through ops.h, appends, returns the output. `quant` is the output's, for u8.
  ValueId add_node(Node node, std::optional<Quant> quant = {});
  void add_output(std::string name, ValueId value);

  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
  bool is_constant(ValueId id) const { return id != kNone && value(id).constant != nullptr; }

  // How many nodes (and graph outputs) read each value.
  std::vector<int32_t> use_counts() const;
  // The node that makes each value, or -1.
  std::vector<int32_t> producers() const;
  // Symbols of the inputs, in order of first appearance.
  std::vector<std::string> symbols() const;

  // Checks the whole graph as the loader needs it: ids in range, order topological, every node's inferred output
  // equal to what is recorded. Throws std::invalid_argument naming the node.
  void validate() const;
  // Readable text: a line per input, node and output, with dtype, shape, quantisation and attributes.
  std::string dump() const;
};

std::string text_of(const Attr& attr);

}  // namespace taille
