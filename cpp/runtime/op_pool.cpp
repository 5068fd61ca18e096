// Max, average, adaptive and global pooling on NHWC; the mean over axes.
#include <algorithm>

#include "base/error.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "runtime/operator.h"
#include "runtime/window.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

// real = (sum - covered * zero_in) * s_in / count, so in output steps a window of `covered` pixels gives
// sum * factor / count + zero_out - zero_in * factor * covered / count, factor = s_in / s_out.
struct Rescale {
  double factor, zero_in, zero_out;
};

Rescale rescale_of(const Value& in, const Value& out) {
  if (!in.quant) return {1, 0, 0};
  return {static_cast<double>(in.quant->scale) / out.quant->scale, static_cast<double>(in.quant->zero_point),
          static_cast<double>(out.quant->zero_point)};
}

struct PoolPlan {
  PoolTable table;
  std::vector<float> divisor, multiplier, bias;
  int64_t images = 0, in_elements = 0, pixels = 0, channels = 0;
  int64_t output_stride = 0;  // elements between output pixels
  int parts = 1;
};

class Pool final : public Operator {
 public:
  Pool(const Graph& g, const Node& node, const EngineConfig& config)
      : node_(node),
        config_(config),
        bytes_(g.value(node.inputs[0]).dtype == DType::u8),
        max_(node.op == "max_pool2d"),
        rescale_(rescale_of(g.value(node.inputs[0]), g.value(node.output))) {}

  std::string kernel() const override {
    if (bytes_) return select_kernel(max_ ? pool_max_u8_table() : pool_avg_u8_table(), config_.isa).name;
    return select_kernel(max_ ? pool_max_f32_table() : pool_avg_f32_table(), config_.isa).name;
  }

  bool strided_output() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    auto p = std::make_shared<PoolPlan>();
    const Dims& in = shapes.inputs[0];
    Dims out = shapes.output;
    if (node_.op == "mean") out = {in[0], 1, 1, in[3]};
    p->table = table(in, out);
    p->images = out[0];
    p->pixels = out[1] * out[2];
    p->channels = in[3];
    p->in_elements = product(in) / std::max<int64_t>(1, in[0]);
    p->output_stride = shapes.output_stride;
    if (!max_) average(*p);
    const double bytes =
        static_cast<double>(p->table.offsets.size()) * static_cast<double>(p->channels * p->images) * (bytes_ ? 1 : 4);
    p->parts = worth_forking(config_, bytes / kBytesPerSecond);
    if (bytes_) return {[this, p](const RunContext& c) { run<uint8_t>(c, *p); }, 0};
    return {[this, p](const RunContext& c) { run<float>(c, *p); }, 0};
  }

 private:
  Node node_;
  EngineConfig config_;
  bool bytes_, max_;
  Rescale rescale_;

  PoolTable table(const Dims& in, const Dims& out) const {
    if (node_.op == "adaptive_avg_pool2d" || node_.op == "mean") return adaptive_table(in, out);
    const List& k = node_.attr<List>("kernel");
    return pool_table(window_of(node_, k[0], k[1]), in, out);
  }

  void average(PoolPlan& p) const {
    const bool avg = node_.op == "avg_pool2d";
    const List kernel = avg ? node_.attr<List>("kernel") : List{1, 1};
    for (int64_t i = 0; i < p.pixels; ++i) {
      const auto at = static_cast<size_t>(i);
      double count = p.table.starts[at + 1] - p.table.starts[at];
      if (avg && node_.attr<bool>("count_include_pad")) count = static_cast<double>(kernel[0] * kernel[1]);
      if (avg && node_.attr<int64_t>("divisor") > 0) count = static_cast<double>(node_.attr<int64_t>("divisor"));
      const double covered = p.table.starts[at + 1] - p.table.starts[at];
      p.divisor.push_back(static_cast<float>(count));
      p.multiplier.push_back(static_cast<float>(rescale_.factor / count));
      p.bias.push_back(static_cast<float>(rescale_.zero_out - rescale_.zero_in * rescale_.factor * covered / count));
    }
  }

  template <class T>
  void run(const RunContext& c, const PoolPlan& p) const {
    auto one = [&](int64_t image, int64_t begin, int64_t end) {
      PoolArgs<T> args{};
      args.a = c.in<T>(0) + image * p.in_elements;
      args.starts = p.table.starts.data();
      args.offsets = p.table.offsets.data();
      args.channels = p.channels;
      args.ldc = p.output_stride;
      args.m_begin = begin;
      args.m_end = end;
      args.out = c.out<T>() + image * p.pixels * p.output_stride;
      args.divisor = p.divisor.data();
      args.multiplier = p.multiplier.data();
      args.bias = p.bias.data();
      kernel_for<T>().run(args);
    };
    if (p.images >= p.parts)
      return split(c.pool, p.images, 1, p.parts, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) one(i, 0, p.pixels);
      });
    for (int64_t i = 0; i < p.images; ++i)
      split(c.pool, p.pixels, 1, p.parts, [&](int64_t begin, int64_t end, int) { one(i, begin, end); });
  }

  template <class T>
  const KernelRow<PoolArgs<T>>& kernel_for() const {
    if constexpr (std::is_same_v<T, float>)
      return select_kernel(max_ ? pool_max_f32_table() : pool_avg_f32_table(), config_.isa);
    else
      return select_kernel(max_ ? pool_max_u8_table() : pool_avg_u8_table(), config_.isa);
  }
};

// The mean over adjacent axes: over the last ones by rows, else column-wise over the block in the middle.
class MeanF32 final : public Operator {
 public:
  MeanF32(const Node& node, const EngineConfig& config) : config_(config), axes_(node.attr<List>("axes")) {
    std::sort(axes_.begin(), axes_.end());
    for (size_t i = 1; i < axes_.size(); ++i)
      check(axes_[i] == axes_[i - 1] + 1, "mean '", node.name, "': axes that are not adjacent are not supported");
  }

  std::string kernel() const override { return select_kernel(mean_rows_table(), config_.isa).name; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims& in = shapes.inputs[0];
    const auto first = static_cast<size_t>(axes_.front()), last = static_cast<size_t>(axes_.back()) + 1;
    const int64_t outer = product(std::span(in).first(first)), inner = product(std::span(in).subspan(last));
    const int64_t rows = product(std::span(in).subspan(first, last - first));
    const int parts = worth_forking(config_, static_cast<double>(product(in)) * 4 / kBytesPerSecond);
    const Isa isa = config_.isa;
    if (last == in.size())
      return {[=](const RunContext& c) {
                split(c.pool, outer, 1, parts, [&](int64_t begin, int64_t end, int) {
                  select_kernel(mean_last_table(), isa)
                      .run({c.in<float>(0) + begin * rows, end - begin, rows, static_cast<float>(rows),
                            c.out<float>() + begin});
                });
              },
              0};
    return {[=](const RunContext& c) {
              split(c.pool, outer, 1, parts, [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i)
                  select_kernel(mean_rows_table(), isa)
                      .run({c.in<float>(0) + i * rows * inner, rows, inner, inner, static_cast<float>(rows),
                            c.out<float>() + i * inner});
              });
            },
            0};
  }

 private:
  EngineConfig config_;
  List axes_;
};

}  // namespace

OperatorPtr make_pool(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op == "mean" && g.value(node.inputs[0]).dtype == DType::f32) return std::make_unique<MeanF32>(node, config);
  const bool global =
      node.op == "mean" && g.value(node.inputs[0]).shape.size() == 4 && node.attr<List>("axes") == List{1, 2};
  const bool pool = node.op == "max_pool2d" || node.op == "avg_pool2d" || node.op == "adaptive_avg_pool2d";
  if (!global && !(pool && node.attr<std::string>("layout") == "nhwc")) return nullptr;
  return std::make_unique<Pool>(g, node, config);
}

}  // namespace taille
