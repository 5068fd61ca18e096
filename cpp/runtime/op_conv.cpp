// Convolutions: the matrix kernels read rows through an offset table (no im2col); 1x1 without stride is a plain
// matrix product; one input channel per output channel is the depthwise kernel.
#include <algorithm>

#include "base/error.h"
#include "kernels/depthwise.h"
#include "kernels/gemm_f32.h"
#include "kernels/gemm_s8.h"
#include "kernels/half.h"
#include "runtime/conv_plan.h"
#include "runtime/epilogue.h"
#include "runtime/sparse_weight.h"
#include "runtime/sparse_weight_f32.h"

namespace taille {

namespace {

class ConvBase : public Operator {
 public:
  ConvBase(const Graph& g, const Node& node, const EngineConfig& config)
      : node_(node), config_(config), geo_(geometry_of(g, node)), residual_(node.has_input(3)) {
    node_.inputs.clear();
  }

  bool strided_output() const override { return true; }

 protected:
  Node node_;  // for its attributes
  EngineConfig config_;
  ConvGeometry geo_;
  bool residual_;
};

class ConvF32 final : public ConvBase {
 public:
  ConvF32(const Graph& g, const Node& node, const EngineConfig& config)
      : ConvBase(g, node, config), kernel_(select_kernel(gemm_f32_table(), config.isa)) {
    const int64_t depth = geo_.taps() * geo_.group_in();
    const Tensor& w = *g.value(node.inputs[1]).constant;
    type_ = w.dtype;
    const auto element = static_cast<int64_t>(size_of(type_));
    group_bytes_ = gemm_f32_packed_elements(geo_.group_out(), depth) * element;
    packed_ = Buffer(static_cast<size_t>(group_bytes_ * geo_.groups));
    for (int64_t i = 0; i < geo_.groups; ++i)
      gemm_f32_pack(type_, w.data.data() + i * geo_.group_out() * depth * element, depth, 1, geo_.group_out(), depth,
                    packed_.data() + i * group_bytes_);
    if (node.has_input(2)) bias_ = g.value(node.inputs[2]).constant;
    pad_ = Buffer(static_cast<size_t>(geo_.group_in()) * sizeof(float));
    lo_ = static_cast<float>(node.attr<double>("lo"));
    hi_ = static_cast<float>(node.attr<double>("hi"));
    if (geo_.groups == 1)
      sparse_ =
          SparseWeightF32::of(w, geo_.out_channels, geo_.taps(), geo_.in_channels, packed_.data(), kernel_, config.isa);
  }

  std::string kernel() const override { return sparse_ ? sparse_->describe() : kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    auto plan = plan_conv(node_, geo_, shapes, config_, false);
    const int64_t dense = gemm_f32_scratch_bytes(type_, geo_.group_out(), geo_.taps() * geo_.group_in());
    const int64_t scratch = round_up(std::max(dense, sparse_ ? sparse_->scratch_bytes() : 0), 64);
    return {[this, plan, scratch](const RunContext& c) { run(c, *plan, scratch); }, scratch * config_.threads};
  }

 private:
  const KernelRow<GemmF32Args>& kernel_;
  DType type_;  // of the weights
  Buffer packed_, pad_;
  std::optional<SparseWeightF32> sparse_;
  int64_t group_bytes_ = 0;
  TensorPtr bias_;
  float lo_ = 0, hi_ = 0;

  void run(const RunContext& c, const ConvPlan& plan, int64_t scratch) const {
    GemmF32Args args{};
    args.packed_type = type_;
    args.lda = geo_.in_channels;
    args.offsets = plan.offsets.empty() ? nullptr : plan.offsets.data();
    args.taps = geo_.taps();
    args.pad_row = pad_.data<float>();
    args.k = geo_.group_in();
    args.n = geo_.group_out();
    args.residual_stride = geo_.out_channels;
    args.ldc = plan.output_stride;
    args.lo = lo_;
    args.hi = hi_;
    for_blocks(c, plan, geo_.group_out(), [&](int64_t block, const GemmPartition::Part& p, int thread) {
      GemmF32Args part = args;
      part.scratch = reinterpret_cast<float*>(c.scratch + thread * scratch);
      const int64_t row0 = block * plan.blocks.per_block * plan.blocks.pixels_out;
      part.m_begin = p.m_begin;
      part.m_end = p.m_end;
      part.n_begin = p.n_begin;
      part.n_end = p.n_end;
      for (int64_t g = 0; g < geo_.groups; ++g) {
        const int64_t column = g * geo_.group_out();
        part.a = c.in<float>(0) + block * plan.blocks.per_block * plan.blocks.image_elements + g * geo_.group_in();
        part.packed = packed_.data() + g * group_bytes_;
        part.bias = bias_ ? bias_->as<float>() + column : nullptr;
        part.residual = residual_ ? c.in<float>(3) + row0 * args.residual_stride + column : nullptr;
        part.out = c.out<float>() + row0 * args.ldc + column;
        if (sparse_ && sparse_->serves(part.m_end - part.m_begin))
          sparse_->run(part);
        else
          kernel_.run(part);
      }
    });
  }
};

class ConvS8 final : public ConvBase {
 public:
  ConvS8(const Graph& g, const Node& node, const EngineConfig& config)
      : ConvBase(g, node, config),
        kernel_(select_kernel(gemm_s8_table(), config.isa)),
        epilogue_(int8_epilogue(g, node)) {
    const int64_t depth = geo_.taps() * geo_.group_in();
    group_bytes_ = gemm_s8_packed_bytes(geo_.group_out(), depth);
    packed_ = Buffer(static_cast<size_t>(group_bytes_ * geo_.groups));
    const int8_t* w = g.value(node.inputs[1]).constant->as<int8_t>();
    pairs_fit_ = true;
    for (int64_t i = 0; i < geo_.groups; ++i) {
      int8_t* packed = packed_.data<int8_t>() + i * group_bytes_;
      gemm_s8_pack(w + i * geo_.group_out() * depth, geo_.group_out(), depth, packed);
      pairs_fit_ &= gemm_s8_pairs_fit(packed, geo_.group_out(), depth);
    }
    pad_ = Buffer(static_cast<size_t>(geo_.group_in()));
    std::fill_n(pad_.data<uint8_t>(), geo_.group_in(), epilogue_.pad_byte);
    if (geo_.groups == 1)
      sparse_ = SparseWeight::of(w, geo_.out_channels, geo_.taps(), geo_.in_channels, packed_.data<int8_t>(), kernel_,
                                 config.isa);
    if (sparse_ && sparse_->serves_all()) packed_ = Buffer();
  }

  std::string kernel() const override { return sparse_ ? sparse_->describe() : kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    auto plan = plan_conv(node_, geo_, shapes, config_, true);
    if (sparse_ && sparse_->serves_all()) sparse_->share_blocks(plan->within_block);
    const int64_t dense = gemm_s8_scratch_bytes(geo_.taps() * geo_.group_in());
    const int64_t scratch = round_up(std::max(dense, sparse_ ? sparse_->scratch_bytes() : 0), 64);
    return {[this, plan, scratch](const RunContext& c) { run(c, *plan, scratch); }, scratch * config_.threads};
  }

 private:
  const KernelRow<GemmS8Args>& kernel_;
  Int8Epilogue epilogue_;
  Buffer packed_, pad_;
  std::optional<SparseWeight> sparse_;
  int64_t group_bytes_ = 0;
  bool pairs_fit_;

  GemmS8Args shared_args(const ConvPlan& plan) const {
    GemmS8Args args = epilogue_.gemm_args();
    args.lda = geo_.in_channels;
    args.offsets = plan.offsets.empty() ? nullptr : plan.offsets.data();
    args.taps = geo_.taps();
    args.pad_row = pad_.data<uint8_t>();
    args.k = geo_.group_in();
    args.n = geo_.group_out();
    args.residual_stride = geo_.out_channels;
    args.ldc = plan.output_stride;
    args.pairs_fit = pairs_fit_;
    return args;
  }

  void run(const RunContext& c, const ConvPlan& plan, int64_t scratch) const {
    const GemmS8Args args = shared_args(plan);
    const int64_t element = epilogue_.out_f32 ? 4 : 1;  // bytes of an output (and residual) element
    for_blocks(c, plan, geo_.group_out(), [&](int64_t block, const GemmPartition::Part& p, int thread) {
      GemmS8Args part = args;
      const int64_t row0 = block * plan.blocks.per_block * plan.blocks.pixels_out;
      part.m_begin = p.m_begin;
      part.m_end = p.m_end;
      part.n_begin = p.n_begin;
      part.n_end = p.n_end;
      part.scratch = c.scratch + thread * scratch;
      for (int64_t g = 0; g < geo_.groups; ++g) {
        const int64_t column = g * geo_.group_out();
        part.a = c.in<uint8_t>(0) + block * plan.blocks.per_block * plan.blocks.image_elements + g * geo_.group_in();
        part.packed = packed_.data<int8_t>() + g * group_bytes_;
        part.offset = epilogue_.offset.data() + column;
        part.scale = epilogue_.scale.data() + column;
        part.bias = epilogue_.bias.data() + column;
        part.residual = residual_ ? c.in<uint8_t>(3) + (row0 * args.residual_stride + column) * element : nullptr;
        part.out = c.out<uint8_t>() + (row0 * args.ldc + column) * element;
        if (sparse_ && sparse_->serves(part.m_end - part.m_begin))
          sparse_->run(part);
        else
          kernel_.run(part);
      }
    });
  }
};

// [C][kh][kw][1] weights as the kernel's [taps][C].
template <class T>
Buffer by_taps(const Tensor& w, int64_t channels, int64_t taps) {
  Buffer out(static_cast<size_t>(channels * taps) * sizeof(T));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t) out.data<T>()[t * channels + c] = w.as<T>()[c * taps + t];
  return out;
}

// The constant in float32.
TensorPtr widened(TensorPtr w, Isa isa) {
  if (!is_half(w->dtype)) return w;
  auto out = std::make_shared<Tensor>(DType::f32, w->dims);
  select_kernel(widen_table(), isa).run({w->data.data(), w->count(), w->dtype, out->as<float>()});
  return out;
}

class DepthwiseF32 final : public ConvBase {
 public:
  DepthwiseF32(const Graph& g, const Node& node, const EngineConfig& config)
      : ConvBase(g, node, config), kernel_(select_kernel(depthwise_f32_table(), config.isa)) {
    // Few and read for every pixel: 16-bit ones are widened here.
    const TensorPtr w = widened(g.value(node.inputs[1]).constant, config.isa);
    w_ = by_taps<float>(*w, geo_.in_channels, geo_.taps());
    if (node.has_input(2)) bias_ = g.value(node.inputs[2]).constant;
    pad_ = Buffer(static_cast<size_t>(geo_.in_channels) * sizeof(float));
  }

  std::string kernel() const override { return kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    auto plan = plan_conv(node_, geo_, shapes, config_, false);
    return {[this, plan](const RunContext& c) { run(c, *plan); }, 0};
  }

 private:
  const KernelRow<DepthwiseF32Args>& kernel_;
  Buffer w_, pad_;
  TensorPtr bias_;

  void run(const RunContext& c, const ConvPlan& plan) const {
    for_blocks(c, plan, geo_.group_out(), [&](int64_t block, const GemmPartition::Part& p, int) {
      DepthwiseF32Args args{};
      args.a = c.in<float>(0) + block * plan.blocks.per_block * plan.blocks.image_elements;
      args.offsets = plan.offsets.data();
      args.taps = geo_.taps();
      args.pad_row = pad_.data<float>();
      args.channels = geo_.in_channels;
      args.ldc = plan.output_stride;
      args.w = w_.data<float>();
      args.bias = bias_ ? bias_->as<float>() : nullptr;
      args.lo = static_cast<float>(node_.attr<double>("lo"));
      args.hi = static_cast<float>(node_.attr<double>("hi"));
      args.m_begin = p.m_begin;
      args.m_end = p.m_end;
      args.out = c.out<float>() + block * plan.blocks.per_block * plan.blocks.pixels_out * args.ldc;
      kernel_.run(args);
    });
  }
};

class DepthwiseS8 final : public ConvBase {
 public:
  DepthwiseS8(const Graph& g, const Node& node, const EngineConfig& config)
      : ConvBase(g, node, config),
        kernel_(select_kernel(depthwise_s8_table(), config.isa)),
        epilogue_(int8_epilogue(g, node)) {
    w_ = by_taps<int8_t>(*g.value(node.inputs[1]).constant, geo_.in_channels, geo_.taps());
    args_.window = depthwise_window(window_of(node_, geo_.kernel_h, geo_.kernel_w));
    args_.pad = epilogue_.pad_byte;
    args_.channels = geo_.in_channels;
    args_.w = w_.data<int8_t>();
    args_.offset = epilogue_.offset.data();
    args_.scale = epilogue_.scale.data();
    args_.bias = epilogue_.bias.data();
    args_.lo = epilogue_.lo;
    args_.hi = epilogue_.hi;
    args_.out_f32 = epilogue_.out_f32;
    packed_ = Buffer(static_cast<size_t>(depthwise_s8_packed_bytes(args_.window, args_.channels)));
    args_.bounded = depthwise_s8_pack(args_, packed_.data<uint8_t>());
    args_.packed = packed_.data<uint8_t>();
  }

  std::string kernel() const override { return kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims &in = shapes.inputs[0], &out = shapes.output;
    const double macs = static_cast<double>(product(out)) * static_cast<double>(geo_.taps());
    const int parts = worth_forking(config_, macs * 4 / mac_rate(config_.isa, true));
    const int64_t scratch = round_up(depthwise_s8_scratch_bytes(args_.window), 64);
    DepthwiseS8Args args = args_;
    args.height = in[1];
    args.width = in[2];
    args.out_width = out[2];
    args.ldc = shapes.output_stride;
    const int64_t images = out[0], out_height = out[1];
    return {[this, args, scratch, parts, images, out_height](const RunContext& c) {
              run(c, args, images, out_height, parts, scratch);
            },
            scratch * config_.threads};
  }

 private:
  const KernelRow<DepthwiseS8Args>& kernel_;
  Int8Epilogue epilogue_;
  Buffer w_, packed_;
  DepthwiseS8Args args_{};  // but for what depends on the shape

  static DepthwiseWindow depthwise_window(const Window& w) {
    return {w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_top, w.pad_left, w.dilation_h, w.dilation_w};
  }

  // Shares out the rows of all images, in the groups that the kernel does together.
  void run(const RunContext& c, const DepthwiseS8Args& args, int64_t images, int64_t out_height, int parts,
           int64_t scratch) const {
    const int64_t element = epilogue_.out_f32 ? 4 : 1;
    const int64_t together = depthwise_s8_rows_together(args.window);
    const int64_t groups = (out_height + together - 1) / together;  // of one image
    split(c.pool, images * groups, 1, parts, [&](int64_t begin, int64_t end, int thread) {
      DepthwiseS8Args part = args;
      part.scratch = c.scratch + thread * scratch;
      while (begin < end) {
        const int64_t image = begin / groups, first = begin % groups;
        const int64_t count = std::min(end - begin, groups - first);
        part.a = c.in<uint8_t>(0) + image * args.height * args.width * args.channels;
        part.out = c.out<uint8_t>() + image * out_height * args.out_width * args.ldc * element;
        part.row_begin = first * together;
        part.row_end = std::min(out_height, (first + count) * together);
        kernel_.run(part);
        begin += count;
      }
    });
  }
};

}  // namespace

OperatorPtr make_conv(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "conv2d" || node.attr<std::string>("layout") != "nhwc") return nullptr;
  const bool int8 = g.value(node.inputs[1]).dtype == DType::s8;
  // The depthwise kernels have no residual; such a node runs as a grouped convolution.
  if (geometry_of(g, node).depthwise() && !node.has_input(3)) {
    if (int8) return std::make_unique<DepthwiseS8>(g, node, config);
    return std::make_unique<DepthwiseF32>(g, node, config);
  }
  if (int8) return std::make_unique<ConvS8>(g, node, config);
  return std::make_unique<ConvF32>(g, node, config);
}

}  // namespace taille
