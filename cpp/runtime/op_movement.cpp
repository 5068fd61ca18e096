// Ops that move data: permute, expand, slice, pad. One strided copy each.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/movement.h"
#include "runtime/broadcast.h"
#include "runtime/operator.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

CopyArgs copy_args(const Dims& dims, const Dims& in_strides, const Dims& out_strides, size_t element) {
  CopyArgs a{};
  a.element_size = static_cast<int64_t>(element);
  a.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), a.dims);
  std::copy(in_strides.begin(), in_strides.end(), a.in_strides);
  std::copy(out_strides.begin(), out_strides.end(), a.out_strides);
  return a;
}

// Where in its input or output a strided copy starts (elements), and its shape and strides.
struct CopySpec {
  Dims dims, in_strides, out_strides;
  int64_t in_start = 0, out_start = 0;
};

size_t element_of(const Graph& g, const Node& node) { return size_of(g.value(node.output).dtype); }

// Copies described by a function of the shapes; work is split over the first dimension.
class Movement final : public Operator {
 public:
  using Describe = std::function<CopySpec(const NodeShapes&)>;
  Movement(size_t element, const EngineConfig& config, Describe describe)
      : kernel_(select_kernel(copy_table(), config.isa)),
        element_(element),
        config_(config),
        describe_(std::move(describe)) {}

  std::string kernel() const override { return kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    const CopySpec s = describe_(shapes);
    const CopyArgs args = copy_args(s.dims, s.in_strides, s.out_strides, element_);
    const auto element = static_cast<int64_t>(element_);
    const double bytes = static_cast<double>(product(s.dims) * element);
    const int parts = s.dims.empty() ? 1 : worth_forking(config_, bytes / (kBytesPerSecond / 4));
    return {[=, this](const RunContext& c) {
              split(c.pool, args.rank ? args.dims[0] : 1, 1, parts, [&](int64_t begin, int64_t end, int) {
                CopyArgs part = args;
                if (part.rank) part.dims[0] = end - begin;
                part.in = c.in<uint8_t>(0) + (s.in_start + begin * args.in_strides[0]) * element;
                part.out = c.out<uint8_t>() + (s.out_start + begin * args.out_strides[0]) * element;
                kernel_.run(part);
              });
            },
            0};
  }

 private:
  const KernelRow<CopyArgs>& kernel_;
  size_t element_;
  EngineConfig config_;
  Describe describe_;
};

OperatorPtr permute(const Graph& g, const Node& node, const EngineConfig& config) {
  return std::make_unique<Movement>(element_of(g, node), config, [axes = node.attr<List>("axes")](const NodeShapes& s) {
    const Dims in = strides_of(s.inputs[0]);
    CopySpec spec{s.output, {}, strides_of(s.output)};
    for (int64_t a : axes) spec.in_strides.push_back(in[static_cast<size_t>(a)]);
    return spec;
  });
}

OperatorPtr expand(const Graph& g, const Node& node, const EngineConfig& config) {
  return std::make_unique<Movement>(element_of(g, node), config, [](const NodeShapes& s) {
    return CopySpec{s.output, broadcast_strides(s.inputs[0], s.output), strides_of(s.output)};
  });
}

OperatorPtr slice(const Graph& g, const Node& node, const EngineConfig& config) {
  return std::make_unique<Movement>(
      element_of(g, node), config,
      [at = axis_of(node, g.value(node.output).shape.size()), start = node.attr<Shape>("start")[0],
       step = node.attr<int64_t>("step"), name = node.name](const NodeShapes& s) {
        CopySpec spec{s.output, strides_of(s.inputs[0]), strides_of(s.output)};
        const int64_t first = start.evaluate(s.symbols), n = s.output[at];
        const int64_t extent = s.inputs[0][at];
        // Divided, not multiplied: a product of a hostile length and step overflows.
        check(n == 0 || (first >= 0 && first < extent && n - 1 <= (extent - 1 - first) / step), "slice '", name,
              "': ", first, " .. +", n, " reaches outside an extent of ", extent);
        spec.in_start = n == 0 ? 0 : first * spec.in_strides[at];
        if (n > 1) spec.in_strides[at] *= step;  // otherwise it is not taken, and may be anything
        return spec;
      });
}

// Fills the output, then copies the input into its middle.
class Pad final : public Operator {
 public:
  Pad(const Graph& g, const Node& node, const EngineConfig& config)
      : kernel_(select_kernel(copy_table(), config.isa)),
        before_(node.attr<List>("before")),
        element_(element_of(g, node)),
        value_(node.attr<double>("value")) {
    const Value& out = g.value(node.output);
    if (out.quant)
      byte_ = static_cast<uint8_t>(
          std::clamp(std::nearbyint(value_ / out.quant->scale) + out.quant->zero_point, 0.0, 255.0));
  }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims out_strides = strides_of(shapes.output);
    int64_t start = 0;
    for (size_t i = 0; i < before_.size(); ++i) start += before_[i] * out_strides[i];
    const CopyArgs args = copy_args(shapes.inputs[0], strides_of(shapes.inputs[0]), out_strides, element_);
    const int64_t n = product(shapes.output);
    return {[this, args, start, n](const RunContext& c) {
              if (element_ == 1)
                std::memset(c.output, byte_, static_cast<size_t>(n));
              else
                std::fill_n(c.out<float>(), n, static_cast<float>(value_));
              CopyArgs a = args;
              a.in = c.inputs[0];
              a.out = c.out<uint8_t>() + start * static_cast<int64_t>(element_);
              kernel_.run(a);
            },
            0};
  }

 private:
  const KernelRow<CopyArgs>& kernel_;
  List before_;
  size_t element_;
  double value_;
  uint8_t byte_ = 0;
};

}  // namespace

OperatorPtr make_movement(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op == "permute") return permute(g, node, config);
  if (node.op == "expand") return expand(g, node, config);
  if (node.op == "slice") return slice(g, node, config);
  if (node.op == "pad") return std::make_unique<Pad>(g, node, config);
  return nullptr;
}

}  // namespace taille
