// Softmax, LayerNorm and RMSNorm by rows.
#include <algorithm>
#include <optional>

#include "graph/ops.h"
#include "kernels/movement.h"
#include "kernels/normalize.h"
#include "runtime/operator.h"

namespace taille {

namespace {

class Softmax final : public Operator {
 public:
  Softmax(const Node& node, size_t rank, const EngineConfig& config)
      : config_(config),
        kernel_(select_kernel(softmax_table(), config.isa)),
        copy_(select_kernel(copy_table(), config.isa)) {
    axis_ = axis_of(node, rank);
  }

  std::string kernel() const override { return kernel_.name; }
  bool in_place() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims& dims = shapes.output;
    if (dims.empty()) return {[](const RunContext& c) { *c.out<float>() = 1; }, 0};
    const int64_t outer = product(std::span(dims).first(axis_)), n = dims[axis_];
    const int64_t inner = product(std::span(dims).subspan(axis_ + 1));
    const int64_t rows = outer * inner;
    const int parts = worth_forking(config_, static_cast<double>(rows * n) * 1e-9);
    if (inner == 1)
      return {[this, rows, n, parts](const RunContext& c) { run(c, c.in<float>(0), c.out<float>(), rows, n, parts); },
              0};
    // Another axis: move it last, and back.
    return {[this, outer, inner, n, rows, parts](const RunContext& c) {
              auto* moved = reinterpret_cast<float*>(c.scratch);
              swap(c.in<float>(0), moved, outer, n, inner);
              run(c, moved, moved, rows, n, parts);
              swap(moved, c.out<float>(), outer, inner, n);
            },
            rows * n * 4};
  }

 private:
  EngineConfig config_;
  const KernelRow<SoftmaxArgs>& kernel_;
  const KernelRow<CopyArgs>& copy_;  // for another axis than the last
  size_t axis_ = 0;

  void run(const RunContext& c, const float* x, float* out, int64_t rows, int64_t n, int parts) const {
    split(c.pool, rows, 1, parts,
          [&](int64_t begin, int64_t end, int) { kernel_.run({x + begin * n, end - begin, n, out + begin * n}); });
  }

  // [outer][a][b] -> [outer][b][a]
  void swap(const float* in, float* out, int64_t outer, int64_t a, int64_t b) const {
    CopyArgs args{};
    args.in = in;
    args.out = out;
    args.element_size = 4;
    args.rank = 3;
    const int64_t dims[3] = {outer, b, a}, from[3] = {a * b, 1, b}, to[3] = {a * b, a, 1};
    std::copy_n(dims, 3, args.dims);
    std::copy_n(from, 3, args.in_strides);
    std::copy_n(to, 3, args.out_strides);
    copy_.run(args);
  }
};

class Norm final : public Operator {
 public:
  Norm(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config),
        kernel_(select_kernel(node.op == "layer_norm" ? layer_norm_table() : rms_norm_table(), config.isa)),
        axes_(node.attr<int64_t>("axes")),
        gamma_(node.has_input(1)),
        beta_(node.has_input(2)),
        epsilon_(static_cast<float>(node.attr<double>("epsilon"))),
        quant_(g.value(node.output).quant) {}

  std::string kernel() const override { return kernel_.name; }
  bool in_place() const override { return !quant_; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims& dims = shapes.output;
    const int64_t n = product(std::span(dims).last(static_cast<size_t>(axes_)));
    const int64_t rows = product(dims) / std::max<int64_t>(1, n);
    const int parts = worth_forking(config_, static_cast<double>(rows * n) * 0.4e-9);
    return {[this, rows, n, parts](const RunContext& c) {
              split(c.pool, rows, 1, parts, [&](int64_t begin, int64_t end, int) { run(c, begin, end, n); });
            },
            0};
  }

 private:
  EngineConfig config_;
  const KernelRow<NormArgs>& kernel_;
  int64_t axes_;
  bool gamma_, beta_;
  float epsilon_;
  std::optional<Quant> quant_;  // of a uint8 output

  void run(const RunContext& c, int64_t begin, int64_t end, int64_t n) const {
    NormArgs args{};
    args.x = c.in<float>(0) + begin * n;
    args.rows = end - begin;
    args.n = n;
    args.gamma = gamma_ ? c.in<float>(1) : nullptr;
    args.beta = beta_ ? c.in<float>(2) : nullptr;
    args.epsilon = epsilon_;
    if (quant_) {
      args.out_u8 = c.out<uint8_t>() + begin * n;
      args.inverse_scale = 1 / quant_->scale;
      args.zero_point = static_cast<float>(quant_->zero_point);
    } else {
      args.out = c.out<float>() + begin * n;
    }
    kernel_.run(args);
  }
};

}  // namespace

OperatorPtr make_normalize(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op == "softmax") return std::make_unique<Softmax>(node, g.value(node.output).shape.size(), config);
  if (is_norm(node.op)) return std::make_unique<Norm>(g, node, config);
  return nullptr;
}

}  // namespace taille
