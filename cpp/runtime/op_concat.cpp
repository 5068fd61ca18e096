// Concat: each input is copied to its place in the output, unless its producer wrote it there (see plan.h); bytes of
// another scale are rescaled on the way.
#include <cstring>
#include <optional>

#include "kernels/quantize.h"
#include "runtime/epilogue.h"
#include "runtime/operator.h"

namespace taille {

namespace {

struct Piece {
  int64_t width, at;  // bytes of an input's row, and where in the output's row it begins
};

class Concat final : public Operator {
 public:
  Concat(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config),
        rescale_kernel_(select_kernel(add_u8_table(), config.isa)),
        element_(static_cast<int64_t>(size_of(g.value(node.output).dtype))),
        rank_(g.value(node.output).shape.size()),
        axis_(axis_of(node, rank_)) {
    const std::optional<Quant>& out = g.value(node.output).quant;
    for (ValueId i : node.inputs) {
      const std::optional<Quant>& in = g.value(i).quant;
      rescale_.emplace_back();
      if (out && *in != *out) rescale_.back() = add_args(*in, nullptr, *out, {0, 255});
    }
  }

  std::string kernel() const override {
    for (const auto& rescale : rescale_)
      if (rescale) return rescale_kernel_.name;
    return "portable";
  }

  bool strided_output() const override { return axis_ + 1 == rank_; }
  bool holds_input(size_t input) const override { return !rescale_[input]; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t outer = product(std::span(shapes.output).first(axis_));
    const int64_t row =
        product(std::span(shapes.output).subspan(axis_, rank_ - 1 - axis_)) * shapes.output_stride * element_;
    const int parts = worth_forking(config_, static_cast<double>(outer * row) / (kBytesPerSecond / 4));
    std::vector<Piece> pieces;
    int64_t at = 0;
    for (const Dims& in : shapes.inputs) {
      pieces.push_back({product(std::span(in).subspan(axis_)) * element_, at});
      at += pieces.back().width;
    }
    return {[this, outer, row, parts, pieces](const RunContext& c) {
              split(c.pool, outer, 1, parts, [&](int64_t begin, int64_t end, int) {
                for (size_t i = 0; i < pieces.size(); ++i) copy(c, i, pieces[i], row, begin, end);
              });
            },
            0};
  }

 private:
  EngineConfig config_;
  const KernelRow<AddU8Args>& rescale_kernel_;
  int64_t element_;
  size_t rank_, axis_;
  std::vector<std::optional<AddU8Args>> rescale_;  // by input; none where its bytes are right as they are

  void copy(const RunContext& c, size_t input, const Piece& piece, int64_t row, int64_t begin, int64_t end) const {
    if (c.in<uint8_t>(input) == c.out<uint8_t>() + piece.at) return;
    for (int64_t o = begin; o < end; ++o) {
      const uint8_t* from = c.in<uint8_t>(input) + o * piece.width;
      uint8_t* to = c.out<uint8_t>() + o * row + piece.at;
      if (!rescale_[input]) {
        std::memcpy(to, from, static_cast<size_t>(piece.width));
        continue;
      }
      AddU8Args args = *rescale_[input];
      args.a = from;
      args.n = piece.width;
      args.out = to;
      rescale_kernel_.run(args);
    }
  }
};

}  // namespace

OperatorPtr make_concat(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "concat") return nullptr;
  return std::make_unique<Concat>(g, node, config);
}

}  // namespace taille
