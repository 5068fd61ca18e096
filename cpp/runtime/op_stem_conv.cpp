// int8 convolutions on few channels (a network's first one: 1 or 3). In NHWC the kernel_w * channels bytes of one
// filter row are contiguous, so with the image padded in memory a filter row is one tap: 7 taps of 21 bytes where the
// general operator has 49 of 3. The padded copy costs an image's bytes once; a tap that is no multiple of 4 bytes long
// costs the matrix kernel a gather, which 49 short ones cost seven times over.
#include "kernels/gemm_s8.h"
#include "runtime/conv_plan.h"
#include "runtime/epilogue.h"
#include "runtime/padded_image.h"

namespace taille {

namespace {

struct StemPlan {
  ConvPlan conv;
  PaddedImage image;
  int pad_parts;
  int64_t gemm_scratch;  // bytes of one thread; the padded images lie behind all of them
};

class StemConvS8 final : public Operator {
 public:
  StemConvS8(const Graph& g, const Node& node, const EngineConfig& config)
      : node_(node),
        config_(config),
        geo_(geometry_of(g, node)),
        kernel_(select_kernel(gemm_s8_table(), config.isa)),
        epilogue_(int8_epilogue(g, node)),
        residual_(node.has_input(3)) {
    const int64_t depth = geo_.taps() * geo_.in_channels;
    packed_ = Buffer(static_cast<size_t>(gemm_s8_packed_bytes(geo_.out_channels, depth)));
    gemm_s8_pack(g.value(node.inputs[1]).constant->as<int8_t>(), geo_.out_channels, depth, packed_.data<int8_t>());
    pairs_fit_ = gemm_s8_pairs_fit(packed_.data<int8_t>(), geo_.out_channels, depth);
    node_.inputs.clear();  // the node is kept for its attributes
  }

  std::string kernel() const override { return kernel_.name; }
  bool strided_output() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims &in = shapes.inputs[0], &out = shapes.output;
    const Window w = window_of(node_, geo_.kernel_h, geo_.kernel_w);
    auto p = std::make_shared<StemPlan>();
    p->image = padded_image(w, in, out);
    p->conv.output_stride = shapes.output_stride;
    const Dims padded = {in[0], p->image.padded_height, p->image.padded_width, in[3]};
    p->conv.blocks = image_blocks(padded, out, kRowsPerTable);
    const Window rows{w.kernel_h, 1, w.stride_h, w.stride_w, 0, 0, w.dilation_h, 1};
    p->conv.offsets = conv_offsets(rows, padded, out, p->conv.blocks);
    const int64_t pixels = out[0] * out[1] * out[2], depth = geo_.taps() * geo_.in_channels;
    p->conv.parts = worth_forking(config_, product_seconds(config_.isa, true, pixels, geo_.out_channels, depth));
    p->conv.within_block = partition_block(geo_, p->conv.blocks, p->conv.parts);
    p->pad_parts = worth_forking(config_, static_cast<double>(product(padded)) / kBytesPerSecond);
    p->gemm_scratch = round_up(gemm_s8_scratch_bytes(geo_.taps() * geo_.in_channels), 64);
    return {[this, p](const RunContext& c) { run(c, *p); },
            p->gemm_scratch * config_.threads + in[0] * p->image.bytes()};
  }

 private:
  Node node_;
  EngineConfig config_;
  ConvGeometry geo_;
  const KernelRow<GemmS8Args>& kernel_;
  Int8Epilogue epilogue_;
  bool residual_, pairs_fit_ = false;
  Buffer packed_;

  void run(const RunContext& c, const StemPlan& p) const {
    uint8_t* padded = c.scratch + p.gemm_scratch * config_.threads;
    const PaddedImage& image = p.image;
    split(c.pool, p.conv.blocks.images * image.padded_height, 1, p.pad_parts, [&](int64_t begin, int64_t end, int) {
      pad_rows(image, c.in<uint8_t>(0), begin, end, epilogue_.pad_byte, padded);
    });
    const GemmS8Args args = shared_args(p);
    const int64_t element = epilogue_.out_f32 ? 4 : 1;
    for_blocks(c, p.conv, geo_.out_channels, [&](int64_t block, const GemmPartition::Part& part, int thread) {
      GemmS8Args a = args;
      const int64_t images = block * p.conv.blocks.per_block;
      const int64_t row0 = images * p.conv.blocks.pixels_out;
      a.a = padded + images * image.bytes();
      a.m_begin = part.m_begin;
      a.m_end = part.m_end;
      a.n_begin = part.n_begin;
      a.n_end = part.n_end;
      a.scratch = c.scratch + thread * p.gemm_scratch;
      a.residual = residual_ ? c.in<uint8_t>(3) + row0 * args.residual_stride * element : nullptr;
      a.out = c.out<uint8_t>() + row0 * args.ldc * element;
      kernel_.run(a);
    });
  }

  GemmS8Args shared_args(const StemPlan& p) const {
    GemmS8Args args = epilogue_.gemm_args();
    args.offsets = p.conv.offsets.data();
    args.taps = geo_.kernel_h;
    args.k = geo_.kernel_w * geo_.in_channels;
    args.packed = packed_.data<int8_t>();
    args.pairs_fit = pairs_fit_;
    args.residual_stride = geo_.out_channels;
    args.ldc = p.conv.output_stride;
    return args;
  }
};

}  // namespace

OperatorPtr make_stem_conv(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "conv2d" || node.attr<std::string>("layout") != "nhwc") return nullptr;
  if (g.value(node.inputs[1]).dtype != DType::s8) return nullptr;
  const ConvGeometry geo = geometry_of(g, node);
  const bool few = geo.in_channels % 4 != 0 && geo.in_channels < 16;
  if (!few || geo.groups != 1 || geo.kernel_w == 1 || node.attr<std::vector<int64_t>>("dilation")[1] != 1)
    return nullptr;
  return std::make_unique<StemConvS8>(g, node, config);
}

}  // namespace taille
