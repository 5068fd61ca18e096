// Quantise, dequantise, and element-wise work that stays uint8: add, clamp, byte tables.
#include "kernels/quantize.h"
#include "runtime/epilogue.h"
#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kBytesGrain = 4096;

// An element-wise operator made of a function of a range [begin, end).
class Ranged final : public Operator {
 public:
  using Body = std::function<void(const RunContext&, int64_t begin, int64_t end)>;
  Ranged(std::string kernel, bool in_place, double seconds_per_element, const EngineConfig& config, Body body)
      : kernel_(std::move(kernel)), in_place_(in_place), seconds_(seconds_per_element), config_(config), body_(body) {}

  std::string kernel() const override { return kernel_; }
  bool in_place() const override { return in_place_; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t n = product(shapes.output);
    const int parts = worth_forking(config_, static_cast<double>(n) * seconds_);
    return {[this, n, parts](const RunContext& c) {
              split(c.pool, n, kBytesGrain, parts, [&](int64_t begin, int64_t end, int) { body_(c, begin, end); });
            },
            0};
  }

 private:
  std::string kernel_;
  bool in_place_;
  double seconds_;
  EngineConfig config_;
  Body body_;
};

OperatorPtr quantize_op(const Quant& q, const EngineConfig& config) {
  const auto& row = select_kernel(quantize_table(), config.isa);
  return std::make_unique<Ranged>(
      row.name, false, 0.15e-9, config, [=, &row](const RunContext& c, int64_t b, int64_t e) {
        row.run({c.in<float>(0) + b, e - b, 1 / q.scale, static_cast<float>(q.zero_point), c.out<uint8_t>() + b});
      });
}

OperatorPtr dequantize_op(const Quant& q, const EngineConfig& config) {
  const auto& row = select_kernel(dequantize_table(), config.isa);
  return std::make_unique<Ranged>(row.name, false, 0.15e-9, config,
                                  [=, &row](const RunContext& c, int64_t b, int64_t e) {
                                    row.run({c.in<uint8_t>(0) + b, e - b, q.scale, q.zero_point, c.out<float>() + b});
                                  });
}

OperatorPtr lookup_op(const TensorPtr& table, const EngineConfig& config) {
  const auto& row = select_kernel(lookup_table(), config.isa);
  return std::make_unique<Ranged>(row.name, true, 0.25e-9, config,
                                  [=, &row](const RunContext& c, int64_t b, int64_t e) {
                                    row.run({c.in<uint8_t>(0) + b, e - b, table->as<uint8_t>(), c.out<uint8_t>() + b});
                                  });
}

OperatorPtr add_op(const AddU8Args& shared, bool two, const EngineConfig& config) {
  const auto& row = select_kernel(add_u8_table(), config.isa);
  return std::make_unique<Ranged>(row.name, true, 0.2e-9, config, [=, &row](const RunContext& c, int64_t b, int64_t e) {
    AddU8Args args = shared;
    args.a = c.in<uint8_t>(0) + b;
    args.b = two ? c.in<uint8_t>(1) + b : nullptr;
    args.n = e - b;
    args.out = c.out<uint8_t>() + b;
    row.run(args);
  });
}

}  // namespace

OperatorPtr make_byte_op(const Graph& g, const Node& node, const EngineConfig& config) {
  const Value& out = g.value(node.output);
  if (node.op == "quantize") return quantize_op(*out.quant, config);
  if (node.op == "dequantize") return dequantize_op(*g.value(node.inputs[0]).quant, config);
  if (out.dtype != DType::u8) return nullptr;
  if (node.op == "lookup") return lookup_op(g.value(node.inputs[1]).constant, config);
  if (node.op == "add") {
    const Quant &a = *g.value(node.inputs[0]).quant, &b = *g.value(node.inputs[1]).quant;
    return add_op(add_args(a, &b, *out.quant, {0, 255}), true, config);
  }
  if (node.op == "clamp") {
    const ByteClamp clamp = byte_clamp(node.attr<double>("lo"), node.attr<double>("hi"), *out.quant);
    return add_op(add_args(*g.value(node.inputs[0]).quant, nullptr, *out.quant, clamp), false, config);
  }
  return nullptr;
}

}  // namespace taille
