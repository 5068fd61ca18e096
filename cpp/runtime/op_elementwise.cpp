// Element-wise float32 work: activations and broadcast arithmetic.
#include <map>

#include "kernels/elementwise.h"
#include "runtime/broadcast.h"
#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kFloatsGrain = 1024;  // elements; keeps threads off each other's cache lines
constexpr double kSecondsPerActivation = 1e-9;

const std::map<std::string, UnaryOp, std::less<>> kUnary = {
    {"clamp", UnaryOp::clamp},
    {"neg", UnaryOp::neg},
    {"abs", UnaryOp::abs},
    {"exp", UnaryOp::exp},
    {"log", UnaryOp::log},
    {"sqrt", UnaryOp::sqrt},
    {"rsqrt", UnaryOp::rsqrt},
    {"reciprocal", UnaryOp::reciprocal},
    {"tanh", UnaryOp::tanh},
    {"sigmoid", UnaryOp::sigmoid},
    {"silu", UnaryOp::silu},
    {"erf", UnaryOp::erf},
    {"gelu", UnaryOp::gelu},
    {"gelu_tanh", UnaryOp::gelu_tanh},
    {"hardswish", UnaryOp::hardswish},
    {"hardsigmoid", UnaryOp::hardsigmoid},
};

const std::map<std::string, BinaryOp, std::less<>> kBinary = {
    {"add", BinaryOp::add},         {"sub", BinaryOp::sub},         {"mul", BinaryOp::mul}, {"div", BinaryOp::div},
    {"minimum", BinaryOp::minimum}, {"maximum", BinaryOp::maximum}, {"pow", BinaryOp::pow},
};

class Unary final : public Operator {
 public:
  Unary(const Node& node, UnaryOp op, const EngineConfig& config)
      : config_(config), kernel_(select_kernel(unary_table(), config.isa)), op_(op) {
    if (op == UnaryOp::clamp) {
      lo_ = static_cast<float>(node.attr<double>("lo"));
      hi_ = static_cast<float>(node.attr<double>("hi"));
    }
  }

  std::string kernel() const override { return kernel_.name; }
  bool in_place() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t n = product(shapes.output);
    const int parts = worth_forking(config_, static_cast<double>(n) * kSecondsPerActivation);
    return {[this, n, parts](const RunContext& c) {
              split(c.pool, n, kFloatsGrain, parts, [&](int64_t begin, int64_t end, int) {
                kernel_.run({op_, c.in<float>(0) + begin, end - begin, lo_, hi_, c.out<float>() + begin});
              });
            },
            0};
  }

 private:
  EngineConfig config_;
  const KernelRow<UnaryArgs>& kernel_;
  UnaryOp op_;
  float lo_ = 0, hi_ = 0;
};

class Binary final : public Operator {
 public:
  Binary(BinaryOp op, const EngineConfig& config)
      : config_(config), kernel_(select_kernel(binary_table(), config.isa)), op_(op) {}

  std::string kernel() const override { return kernel_.name; }
  bool in_place() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t n = product(shapes.output);
    const int parts = worth_forking(config_, static_cast<double>(n) * 12 / kBytesPerSecond);
    auto p = std::make_shared<BroadcastPlan>(plan_broadcast(shapes.inputs, shapes.output));
    if (p->outer == 1)
      return {[this, p, parts](const RunContext& c) {
                split(c.pool, p->inner, kFloatsGrain, parts,
                      [&](int64_t begin, int64_t end, int) { run(c, *p, 0, begin, end - begin); });
              },
              0};
    return {[this, p, parts](const RunContext& c) {
              split(c.pool, p->outer, 1, parts, [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i) run(c, *p, i, 0, p->inner);
              });
            },
            0};
  }

 private:
  EngineConfig config_;
  const KernelRow<BinaryArgs>& kernel_;
  BinaryOp op_;

  void run(const RunContext& c, const BroadcastPlan& p, int64_t i, int64_t begin, int64_t n) const {
    kernel_.run({op_, c.in<float>(0) + p.offset(0, i) + begin * p.steps[0],
                 c.in<float>(1) + p.offset(1, i) + begin * p.steps[1], p.steps[0], p.steps[1], n,
                 c.out<float>() + i * p.inner + begin});
  }
};

}  // namespace

OperatorPtr make_elementwise(const Graph& g, const Node& node, const EngineConfig& config) {
  if (g.value(node.output).dtype != DType::f32 ||
      g.value(node.inputs.empty() ? node.output : node.inputs[0]).dtype != DType::f32)
    return nullptr;
  if (auto u = kUnary.find(node.op); u != kUnary.end()) return std::make_unique<Unary>(node, u->second, config);
  if (auto b = kBinary.find(node.op); b != kBinary.end()) return std::make_unique<Binary>(b->second, config);
  return nullptr;
}

}  // namespace taille
