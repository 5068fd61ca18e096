// int8 convolutions by whole filter rows on a padded image, for levels whose conv_s8 is faster than gathering rows for
// a matrix product. The padded copy costs an image's bytes once.
#include <algorithm>
#include <cstring>

#include "kernels/conv_s8.h"
#include "runtime/conv_plan.h"
#include "runtime/epilogue.h"
#include "runtime/padded_image.h"

namespace taille {

namespace {

struct RowConvPlan {
  PaddedImage image;
  ConvS8Args args;  // but for what depends on the image and the thread
  int64_t images, height;
  int parts, pad_parts;
  bool by_rows;
  int64_t scratch;  // bytes of one thread; the padded images lie behind all of them
};

class RowConvS8 final : public Operator {
 public:
  RowConvS8(const Graph& g, const Node& node, const EngineConfig& config)
      : node_(node),
        config_(config),
        geo_(geometry_of(g, node)),
        kernel_(select_kernel(conv_s8_table(), config.isa)),
        epilogue_(int8_epilogue(g, node)),
        residual_(node.has_input(3)),
        tap_bytes_(conv_s8_tap_bytes(geo_.kernel_w * geo_.in_channels)) {
    pack(g.value(node.inputs[1]).constant->as<int8_t>());
    node_.inputs.clear();  // the node is kept for its attributes
  }

  std::string kernel() const override { return kernel_.name; }
  bool strided_output() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims &in = shapes.inputs[0], &out = shapes.output;
    const Window w = window_of(node_, geo_.kernel_h, geo_.kernel_w);
    auto p = std::make_shared<RowConvPlan>();
    p->image = padded_image(w, in, out);
    p->images = out[0];
    p->height = out[1];
    p->args.product = product_args();
    p->args.product.lda = w.stride_w * geo_.in_channels;
    p->args.product.ldc = shapes.output_stride;
    p->args.product.m_end = out[1];
    p->args.width = out[2];
    p->args.row_stride = w.stride_h * p->image.row_bytes();
    p->args.tap_stride = w.dilation_h * p->image.row_bytes();
    const int64_t pixels = out[0] * out[1] * out[2];
    p->parts = worth_forking(config_, product_seconds(config_.isa, true, pixels, geo_.out_channels, depth()));
    p->pad_parts = worth_forking(config_, static_cast<double>(in[0] * p->image.bytes()) / kBytesPerSecond);
    // As for any product: the larger operand is shared out, where it divides.
    p->by_rows =
        partition_gemm(pixels, geo_.out_channels, in[0] * p->image.input_bytes(), geo_.out_channels * depth(), p->parts)
            .by_rows;
    p->scratch = round_up(conv_s8_scratch_bytes(depth()), 64);
    const int64_t behind = std::max<int64_t>(0, conv_s8_image_bytes(p->args) - p->image.bytes());
    return {[this, p](const RunContext& c) { run(c, *p); },
            p->scratch * config_.threads + in[0] * p->image.bytes() + behind};
  }

 private:
  Node node_;
  EngineConfig config_;
  ConvGeometry geo_;
  const KernelRow<ConvS8Args>& kernel_;
  Int8Epilogue epilogue_;
  bool residual_;
  int64_t tap_bytes_;
  Buffer packed_;

  int64_t depth() const { return geo_.kernel_h * tap_bytes_; }

  // w: [out][kernel_h][kernel_w * channels]; zeros behind each filter row
  void pack(const int8_t* w) {
    const int64_t row = geo_.kernel_w * geo_.in_channels, rows = geo_.out_channels * geo_.kernel_h;
    Buffer padded(static_cast<size_t>(rows * tap_bytes_));
    for (int64_t i = 0; i < rows; ++i)
      std::memcpy(padded.data<int8_t>() + i * tap_bytes_, w + i * row, static_cast<size_t>(row));
    packed_ = Buffer(static_cast<size_t>(gemm_s8_packed_bytes(geo_.out_channels, depth())));
    gemm_s8_pack(padded.data<int8_t>(), geo_.out_channels, depth(), packed_.data<int8_t>());
  }

  GemmS8Args product_args() const {
    GemmS8Args args = epilogue_.gemm_args();
    args.taps = geo_.kernel_h;
    args.k = tap_bytes_;
    args.packed = packed_.data<int8_t>();
    args.residual_stride = geo_.out_channels;
    return args;
  }

  void run(const RunContext& c, const RowConvPlan& p) const {
    uint8_t* padded = c.scratch + p.scratch * config_.threads;
    split(c.pool, p.images * p.image.padded_height, 1, p.pad_parts, [&](int64_t begin, int64_t end, int) {
      pad_rows(p.image, c.in<uint8_t>(0), begin, end, epilogue_.pad_byte, padded);
    });
    if (p.by_rows) {
      split(c.pool, p.images * p.height, 1, p.parts, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end;) {
          const int64_t y = i % p.height, rows = std::min(end - i, p.height - y);
          one(c, p, padded, {i / p.height, y, y + rows, 0, geo_.out_channels, thread});
          i += rows;
        }
      });
      return;
    }
    split(c.pool, geo_.out_channels, kPanel, p.parts, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t image = 0; image < p.images; ++image) one(c, p, padded, {image, 0, p.height, begin, end, thread});
    });
  }

  static constexpr int64_t kPanel = 64;

  struct Part {
    int64_t image, y_begin, y_end, n_begin, n_end;
    int thread;
  };

  void one(const RunContext& c, const RowConvPlan& p, const uint8_t* padded, const Part& part) const {
    const int64_t element = epilogue_.out_f32 ? 4 : 1;  // bytes of an output (and residual) element
    const int64_t row0 = part.image * p.height * p.args.width;
    ConvS8Args args = p.args;
    args.product.a = padded + part.image * p.image.bytes();
    args.product.m_begin = part.y_begin;
    args.product.m_end = part.y_end;
    args.product.n_begin = part.n_begin;
    args.product.n_end = part.n_end;
    args.product.scratch = c.scratch + part.thread * p.scratch;
    args.product.residual = residual_ ? c.in<uint8_t>(3) + row0 * args.product.residual_stride * element : nullptr;
    args.product.out = c.out<uint8_t>() + row0 * args.product.ldc * element;
    kernel_.run(args);
  }
};

}  // namespace

OperatorPtr make_row_conv(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "conv2d" || node.attr<std::string>("layout") != "nhwc") return nullptr;
  if (g.value(node.inputs[1]).dtype != DType::s8 || config.isa < Isa::amx) return nullptr;
  const ConvGeometry geo = geometry_of(g, node);
  // One tap has no padding worth a copy: a plain product.
  if (geo.groups != 1 || geo.taps() == 1 || geo.kernel_h > kMaxConvTaps) return nullptr;
  if (node.attr<std::vector<int64_t>>("dilation")[1] != 1) return nullptr;
  return std::make_unique<RowConvS8>(g, node, config);
}

}  // namespace taille
