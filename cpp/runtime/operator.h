// How a node runs. An Operator is made once per node at load: it picks the kernel and packs the weights. plan() is
// called once per shape: it computes offset tables and the split over threads, and gives a Planned, which runs any
// number of times, from several threads at once, and allocates nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/isa.h"
#include "base/thread_pool.h"
#include "graph/graph.h"

namespace taille {

struct EngineConfig {
  Isa isa;
  int threads;
  double fork_join_seconds;  // measured; see worth_forking
};

struct RunContext {
  ThreadPool& pool;
  std::span<const void* const> inputs;  // null for absent ones
  void* output;
  uint8_t* scratch;  // Planned::scratch_bytes, 64-byte aligned

  template <class T>
  const T* in(size_t i) const {
    return static_cast<const T*>(inputs[i]);
  }
  template <class T>
  T* out() const {
    return static_cast<T*>(output);
  }
};

// A run may throw std::invalid_argument (an id out of range), but not from inside the pool.
struct Planned {
  std::function<void(const RunContext&)> run;
  int64_t scratch_bytes = 0;
};

using Dims = std::vector<int64_t>;

struct NodeShapes {
  std::vector<Dims> inputs;  // empty for absent ones
  Dims output;
  int64_t output_stride;  // elements between rows (of the last dimension); those of a row unless strided_output()
  const SymbolValues& symbols;
};

class Operator {
 public:
  Operator() = default;
  virtual ~Operator() = default;
  Operator(const Operator&) = delete;
  Operator& operator=(const Operator&) = delete;

  virtual Planned plan(const NodeShapes& shapes) const = 0;
  // The kernel variant ("avx512vnni"), or "portable" where there is only one way.
  virtual std::string kernel() const { return "portable"; }
  // Whether the output may be written over input 0 (same size, read before written).
  virtual bool in_place() const { return false; }
  // Whether the output's rows may lie apart, as they do within the output of a concat.
  virtual bool strided_output() const { return false; }
  // Of a concat: whether that input is part of the output as it is, so that its producer may write it there. A run
  // knows by its address that it did.
  virtual bool holds_input(size_t) const { return false; }
};

using OperatorPtr = std::unique_ptr<Operator>;

// The operator of a node; throws std::invalid_argument naming the node where none fits.
OperatorPtr make_operator(const Graph& graph, const Node& node, const EngineConfig& config);

// One maker per family; each returns null for nodes that are not its own.
OperatorPtr make_linear(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_conv(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_row_conv(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_stem_conv(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_pool(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_elementwise(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_byte_op(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_logic(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_normalize(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_attention(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_attention_s8(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_concat(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_movement(const Graph& graph, const Node& node, const EngineConfig& config);
OperatorPtr make_select(const Graph& graph, const Node& node, const EngineConfig& config);

// How many threads work of that many seconds is worth: 1 below three fork-joins, else all.
int worth_forking(const EngineConfig& config, double seconds);

// Splits [0, n) into at most `parts` runs, multiples of `grain` but for the last; calls body(begin, end, thread).
void split(ThreadPool& pool, int64_t n, int64_t grain, int parts,
           FunctionRef<void(int64_t begin, int64_t end, int thread)> body);

// The node's axis, counted from the front.
size_t axis_of(const Node& node, size_t rank);
int64_t product(std::span<const int64_t> dims);
inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
// Row-major strides in elements.
Dims strides_of(const Dims& dims);

// What a family's plan needs to know about speed: multiply-adds per second of one core, by level.
double mac_rate(Isa isa, bool int8);
// Seconds of a product [m, k] by [k, n] on one core: multiply-adds, or the weights from L2 where these are few rows;
// and the outputs.
double product_seconds(Isa isa, bool int8, int64_t m, int64_t n, int64_t k);
inline constexpr double kBytesPerSecond = 10e9;  // element-wise work of one core, on the safe side

}  // namespace taille
