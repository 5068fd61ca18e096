// Ops that read by index or make data: embedding, gather, index, arange, full. Indices are checked at every run.
#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "kernels/half.h"
#include "kernels/movement.h"
#include "runtime/broadcast.h"
#include "runtime/operator.h"

namespace taille {

namespace {

class Embedding final : public Operator {
 public:
  Embedding(const Graph& g, const Node& node, Isa isa)
      : name_(node.name), type_(g.value(node.inputs[0]).dtype), widen_(select_kernel(widen_table(), isa)) {
    const Shape& table = g.value(node.inputs[0]).shape;
    check(table[0].is_constant() && table[1].is_constant(), "embedding '", name_,
          "': the table has dynamic dimensions");
    rows_ = table[0].constant();
    width_ = table[1].constant();
  }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t count = product(shapes.inputs[1]);
    return {[this, count](const RunContext& c) {
              const int64_t bad = type_ == DType::s8 ? scale_rows(c, count)
                                  : is_half(type_)   ? widen_rows(c, count)
                                                     : copy_rows(c, count);
              check(bad < 0, "embedding '", name_, "': id ", bad < 0 ? 0 : c.in<int64_t>(1)[bad], " at position ", bad,
                    " is outside [0, ", rows_, ")");
            },
            0};
  }

 private:
  std::string name_;
  DType type_;  // of the table
  const KernelRow<WidenArgs>& widen_;
  int64_t rows_ = 0, width_ = 0;

  // All give the position of the first id outside the table, or -1.
  int64_t copy_rows(const RunContext& c, int64_t count) const {
    int64_t bad = -1;
    select_kernel(embedding_table(), Isa::portable)
        .run({c.inputs[0], rows_, width_ * 4, c.in<int64_t>(1), count, c.output, &bad});
    return bad;
  }
  int64_t scale_rows(const RunContext& c, int64_t count) const {
    int64_t bad = -1;
    select_kernel(embedding_s8_table(), Isa::portable)
        .run({c.in<int8_t>(0), c.in<float>(2), rows_, width_, c.in<int64_t>(1), count, c.out<float>(), &bad});
    return bad;
  }
  int64_t widen_rows(const RunContext& c, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = c.in<int64_t>(1)[i];
      if (id < 0 || id >= rows_) return i;
      widen_.run({c.in<F16>(0) + id * width_, width_, type_, c.out<float>() + i * width_});
    }
    return -1;
  }
};

void copy_element(size_t size, const uint8_t* in, uint8_t* out) {
  for (size_t b = 0; b < size; ++b) out[b] = in[b];
}

int64_t checked_index(const std::string& name, int64_t i, int64_t extent) {
  check(i >= -extent && i < extent, name, ": index ", i, " is outside an extent of ", extent);
  return i < 0 ? i + extent : i;
}

class Gather final : public Operator {
 public:
  Gather(const Graph& g, const Node& node) : name_(node.name), element_(size_of(g.value(node.output).dtype)) {
    axis_ = axis_of(node, g.value(node.output).shape.size());
  }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims in = shapes.inputs[0], out = shapes.output, strides = strides_of(in);
    const int64_t n = product(out);
    return {[=, this](const RunContext& c) {
              for (int64_t i = 0; i < n; ++i) {
                int64_t at = 0, rest = i;
                for (size_t d = out.size(); d-- > 0; rest /= out[d])
                  if (d != axis_) at += rest % out[d] * strides[d];
                at += checked_index("gather '" + name_ + "'", c.in<int64_t>(1)[i], in[axis_]) * strides[axis_];
                copy_element(element_, c.in<uint8_t>(0) + at * static_cast<int64_t>(element_),
                             c.out<uint8_t>() + i * static_cast<int64_t>(element_));
              }
            },
            0};
  }

 private:
  std::string name_;
  size_t element_, axis_ = 0;
};

// x[i0, i1, ..]: the index tensors broadcast together; each picks a row of what is left of x.
class Index final : public Operator {
 public:
  Index(const Graph& g, const Node& node)
      : name_("index '" + node.name + "'"), element_(static_cast<int64_t>(size_of(g.value(node.output).dtype))) {}

  Planned plan(const NodeShapes& shapes) const override {
    const Dims in = shapes.inputs[0];
    const size_t indices = shapes.inputs.size() - 1;
    const Dims lead(shapes.output.begin(), shapes.output.end() - static_cast<int64_t>(in.size() - indices));
    std::vector<Dims> operands(shapes.inputs.begin() + 1, shapes.inputs.end());
    auto p = std::make_shared<BroadcastPlan>(plan_broadcast(operands, lead));
    const Dims strides = strides_of(in);
    const int64_t row = product(std::span(in).subspan(indices)) * element_;
    return {[=, this](const RunContext& c) {
              for (int64_t i = 0; i < p->outer * p->inner; ++i) {
                int64_t at = 0;
                for (size_t d = 0; d < indices; ++d) {
                  const int64_t from = p->offset(d, i / p->inner) + i % p->inner * p->steps[d];
                  at += checked_index(name_, c.in<int64_t>(d + 1)[from], in[d]) * strides[d];
                }
                std::copy_n(c.in<uint8_t>(0) + at * element_, row, c.out<uint8_t>() + i * row);
              }
            },
            0};
  }

 private:
  std::string name_;
  int64_t element_;
};

class Arange final : public Operator {
 public:
  explicit Arange(const Node& node) : start_(node.attr<int64_t>("start")), step_(node.attr<int64_t>("step")) {}
  Planned plan(const NodeShapes& shapes) const override {
    const int64_t n = product(shapes.output);
    return {[this, n](const RunContext& c) {
              for (int64_t i = 0; i < n; ++i)
                c.out<int64_t>()[i] = static_cast<int64_t>(static_cast<uint64_t>(start_) +
                                                           static_cast<uint64_t>(step_) * static_cast<uint64_t>(i));
            },
            0};
  }

 private:
  int64_t start_, step_;
};

class Full final : public Operator {
 public:
  Full(const Graph& g, const Node& node) : dtype_(g.value(node.output).dtype), value_(node.attr<double>("value")) {}
  Planned plan(const NodeShapes& shapes) const override {
    const int64_t n = product(shapes.output);
    return {[this, n](const RunContext& c) {
              if (dtype_ == DType::f32)
                std::fill_n(c.out<float>(), n, static_cast<float>(value_));
              else if (dtype_ == DType::s64)
                std::fill_n(c.out<int64_t>(), n, static_cast<int64_t>(std::clamp(value_, -9e18, 9e18)));
              else
                std::fill_n(c.out<uint8_t>(), n, static_cast<uint8_t>(value_ != 0));
            },
            0};
  }

 private:
  DType dtype_;
  double value_;
};

}  // namespace

OperatorPtr make_select(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op == "embedding") return std::make_unique<Embedding>(g, node, config.isa);
  if (node.op == "gather") return std::make_unique<Gather>(g, node);
  if (node.op == "index") return std::make_unique<Index>(g, node);
  if (node.op == "arange") return std::make_unique<Arange>(node);
  if (node.op == "full") return std::make_unique<Full>(g, node);
  return nullptr;
}

}  // namespace taille
