#include "runtime/operator.h"

#include <algorithm>

#include "base/error.h"

namespace taille {

OperatorPtr make_operator(const Graph& graph, const Node& node, const EngineConfig& config) {
  for (auto make :
       {make_linear, make_row_conv, make_stem_conv, make_conv, make_pool, make_elementwise, make_byte_op, make_logic,
        make_normalize, make_attention, make_attention_s8, make_concat, make_movement, make_select})
    if (OperatorPtr op = make(graph, node, config)) return op;
  throw std::invalid_argument(concat("no kernel runs ", node.op, " '", node.name, "' as it stands (",
                                     name_of(graph.value(node.output).dtype), " ",
                                     text_of(graph.value(node.output).shape), "); was the graph optimised?"));
}

int worth_forking(const EngineConfig& config, double seconds) {
  return seconds < 3 * config.fork_join_seconds ? 1 : config.threads;
}

void split(ThreadPool& pool, int64_t n, int64_t grain, int parts, FunctionRef<void(int64_t, int64_t, int)> body) {
  if (n <= 0) return;
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t count = std::clamp<int64_t>(parts, 1, grains);
  pool.run(count, [&](int64_t task, int thread) {
    const int64_t begin = grains * task / count * grain, end = std::min(n, grains * (task + 1) / count * grain);
    body(begin, end, thread);
  });
}

size_t axis_of(const Node& node, size_t rank) {
  const int64_t axis = node.attr<int64_t>("axis");
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
}

int64_t product(std::span<const int64_t> dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}

Dims strides_of(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

double product_seconds(Isa isa, bool int8, int64_t m, int64_t n, int64_t k) {
  constexpr double kWeightBytes = 80e9, kOutputs = 15e9;  // per second
  const double weights = static_cast<double>(n) * static_cast<double>(k);
  const double multiply = static_cast<double>(m) * weights / mac_rate(isa, int8);
  return std::max(multiply, weights * (int8 ? 1 : 4) / kWeightBytes) + static_cast<double>(m * n) / kOutputs;
}

double mac_rate(Isa isa, bool int8) {
  switch (isa) {
    case Isa::portable:
      return int8 ? 2e9 : 0.5e9;
    case Isa::neon:  // as reckoned for 2.5 GHz, not measured
      return int8 ? 4e9 : 30e9;
    case Isa::neondot:
      return int8 ? 60e9 : 30e9;
    case Isa::avx2:
      return int8 ? 60e9 : 40e9;
    case Isa::avx512:
      return int8 ? 80e9 : 70e9;
    case Isa::avx512vnni:
    case Isa::avx512vbmi:
      return int8 ? 250e9 : 70e9;
    case Isa::amx:
      return int8 ? 900e9 : 70e9;
  }
  return 1e9;
}

}  // namespace taille
