// Scaled dot-product attention and batched matrix products of activations.
#include <algorithm>
#include <limits>

#include "kernels/attention.h"
#include "kernels/gemm_f32.h"
#include "runtime/broadcast.h"
#include "runtime/operator.h"

namespace taille {

namespace {

// Where head (n, h) of a [N,H,S,D] or [N,S,H,D] tensor starts and how far apart its rows are.
struct HeadLayout {
  int64_t batch, head, row;
};

HeadLayout layout_of(const Dims& d, bool heads_last) {
  const int64_t dim = d[3];
  if (heads_last) return {d[1] * d[2] * dim, dim, d[2] * dim};
  return {d[1] * d[2] * dim, d[2] * dim, dim};
}

struct AttentionPlan {
  int64_t batch, heads, queries, keys, dim, value_dim;
  HeadLayout q, k, v, out;
  Dims mask;  // strides over [N, H, S, T]
  int64_t q_block, q_blocks;
  int parts;
  int64_t scratch;  // bytes of one thread
};

class Attention final : public Operator {
 public:
  Attention(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config),
        kernel_(select_kernel(attention_table(), config.isa)),
        scale_(static_cast<float>(node.attr<double>("scale"))),
        causal_(node.attr<bool>("causal")),
        heads_last_(node.attr<bool>("heads_last")),
        masked_(node.has_input(3)),
        bool_mask_(masked_ && g.value(node.inputs[3]).dtype == DType::boolean) {}

  std::string kernel() const override { return kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    auto p = std::make_shared<AttentionPlan>(plan_heads(shapes));
    return {[this, p](const RunContext& c) { run(c, *p); }, p->scratch * config_.threads};
  }

 private:
  EngineConfig config_;
  const KernelRow<AttentionArgs>& kernel_;
  float scale_;
  bool causal_, heads_last_, masked_, bool_mask_;

  // Any rank as [N, H, S, D]: leading dimensions are merged into N, missing ones are 1.
  static Dims rank4(const Dims& d) {
    if (d.size() == 4) return d;
    if (d.size() < 4) {
      Dims full(4 - d.size(), 1);
      full.insert(full.end(), d.begin(), d.end());
      return full;
    }
    return {product(std::span(d).first(d.size() - 3)), d[d.size() - 3], d[d.size() - 2], d[d.size() - 1]};
  }

  AttentionPlan plan_heads(const NodeShapes& shapes) const {
    const Dims q = rank4(shapes.inputs[0]), k = rank4(shapes.inputs[1]), v = rank4(shapes.inputs[2]);
    const size_t seq = heads_last_ ? 1 : 2, head = heads_last_ ? 2 : 1;
    AttentionPlan p{};
    p.batch = q[0];
    p.heads = q[head];
    p.queries = q[seq];
    p.keys = k[seq];
    p.dim = q[3];
    p.value_dim = v[3];
    p.q = layout_of(q, heads_last_);
    p.k = layout_of(k, heads_last_);
    p.v = layout_of(v, heads_last_);
    p.out = layout_of(rank4(shapes.output), heads_last_);
    if (masked_) p.mask = broadcast_strides(rank4(shapes.inputs[3]), {p.batch, p.heads, p.queries, p.keys});
    const double macs =
        static_cast<double>(p.batch * p.heads * p.queries) * static_cast<double>(p.keys * (p.dim + p.value_dim));
    p.parts = worth_forking(config_, macs / (0.3 * mac_rate(config_.isa, false)));
    // Whole heads where there are enough of them: the kernel packs the keys once per call.
    const int64_t heads = std::max<int64_t>(1, p.batch * p.heads);
    const int64_t pieces = heads >= 2 * p.parts ? 1 : 2 * p.parts;
    p.q_block = std::max<int64_t>(16, round_up((p.queries + pieces - 1) / pieces, 16));
    p.q_blocks = (p.queries + p.q_block - 1) / p.q_block;
    p.scratch = round_up(attention_scratch_floats(p.keys, p.dim, p.value_dim) * 4, 64);
    return p;
  }

  void run(const RunContext& c, const AttentionPlan& p) const {
    split(c.pool, p.batch * p.heads * p.q_blocks, 1, p.parts, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) one(c, p, i, thread);
    });
  }

  void one(const RunContext& c, const AttentionPlan& p, int64_t task, int thread) const {
    const int64_t block = task % p.q_blocks, h = task / p.q_blocks % p.heads, n = task / p.q_blocks / p.heads;
    AttentionArgs a{};
    a.q = c.in<float>(0) + n * p.q.batch + h * p.q.head;
    a.k = c.in<float>(1) + n * p.k.batch + h * p.k.head;
    a.v = c.in<float>(2) + n * p.v.batch + h * p.v.head;
    a.q_stride = p.q.row;
    a.k_stride = p.k.row;
    a.v_stride = p.v.row;
    a.keys = p.keys;
    a.dim = p.dim;
    a.value_dim = p.value_dim;
    a.q_begin = block * p.q_block;
    a.q_end = std::min(p.queries, a.q_begin + p.q_block);
    if (masked_) {
      const int64_t at = n * p.mask[0] + h * p.mask[1];
      a.mask = bool_mask_ ? nullptr : c.in<float>(3) + at;
      a.mask_bool = bool_mask_ ? c.in<uint8_t>(3) + at : nullptr;
      a.mask_stride = p.mask[2];
      a.mask_step = p.mask[3];
    }
    a.causal = causal_;
    a.scale = scale_;
    a.out = c.out<float>() + n * p.out.batch + h * p.out.head;
    a.out_stride = p.out.row;
    a.scratch = reinterpret_cast<float*>(c.scratch + thread * p.scratch);
    kernel_.run(a);
  }
};

// a [.., M, K] times b [.., K, N], leading dimensions broadcast; b is packed anew for each product.
class MatMul final : public Operator {
 public:
  explicit MatMul(const EngineConfig& config) : config_(config), kernel_(select_kernel(gemm_f32_table(), config.isa)) {}

  std::string kernel() const override { return kernel_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    const Dims &a = shapes.inputs[0], &b = shapes.inputs[1], &out = shapes.output;
    const int64_t m = a[a.size() - 2], k = a.back(), n = b.back();
    const Dims lead(out.begin(), out.end() - 2);
    const Dims sa = broadcast_strides(Dims(a.begin(), a.end() - 2), lead);
    const Dims sb = broadcast_strides(Dims(b.begin(), b.end() - 2), lead);
    const int64_t count = product(lead);
    const int parts = worth_forking(
        config_, static_cast<double>(count * m) * static_cast<double>(n * k) / mac_rate(config_.isa, false));
    const int64_t scratch = round_up(gemm_f32_packed_elements(n, k) * 4, 64);
    return {[=, this](const RunContext& c) {
              split(c.pool, count, 1, parts, [&](int64_t begin, int64_t end, int thread) {
                auto* packed = reinterpret_cast<float*>(c.scratch + thread * scratch);
                for (int64_t i = begin; i < end; ++i) {
                  const auto [oa, ob] = offsets(i, lead, sa, sb);
                  gemm_f32_pack(DType::f32, c.in<float>(1) + ob * k * n, 1, n, n, k, packed);
                  run(c.in<float>(0) + oa * m * k, packed, c.out<float>() + i * m * n, m, n, k);
                }
              });
            },
            scratch * config_.threads};
  }

 private:
  EngineConfig config_;
  const KernelRow<GemmF32Args>& kernel_;

  struct Offsets {
    int64_t a, b;  // in matrices
  };
  static Offsets offsets(int64_t i, const Dims& lead, const Dims& sa, const Dims& sb) {
    Offsets at{0, 0};
    for (size_t d = lead.size(); d-- > 0;) {
      at.a += i % lead[d] * sa[d];
      at.b += i % lead[d] * sb[d];
      i /= lead[d];
    }
    return at;
  }

  void run(const float* a, const float* packed, float* out, int64_t m, int64_t n, int64_t k) const {
    GemmF32Args args{};
    args.a = a;
    args.lda = k;
    args.taps = 1;
    args.k = k;
    args.packed = packed;
    args.n = args.n_end = args.ldc = n;
    args.m_end = m;
    args.lo = -std::numeric_limits<float>::infinity();
    args.hi = std::numeric_limits<float>::infinity();
    args.out = out;
    kernel_.run(args);
  }
};

}  // namespace

OperatorPtr make_attention(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op == "sdpa") return std::make_unique<Attention>(g, node, config);
  if (node.op == "matmul") return std::make_unique<MatMul>(config);
  return nullptr;
}

}  // namespace taille
