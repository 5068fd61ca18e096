// Scaled dot-product attention and batched matrix products of activations.
#include <algorithm>
#include <limits>

#include "kernels/attention.h"
#include "kernels/gemm_f32.h"
#include "runtime/broadcast.h"
#include "runtime/heads.h"
#include "runtime/operator.h"

namespace taille {

namespace {

struct AttentionPlan {
  Heads heads;
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

  AttentionPlan plan_heads(const NodeShapes& shapes) const {
    AttentionPlan p{};
    p.heads = heads_of(shapes, heads_last_);
    p.parts = worth_forking(config_, p.heads.macs() / (0.3 * mac_rate(config_.isa, false)));
    p.q_block = query_block(p.heads, p.parts);
    p.q_blocks = (p.heads.queries + p.q_block - 1) / p.q_block;
    p.scratch = round_up(attention_scratch_floats(p.heads.keys, p.heads.dim, p.heads.value_dim) * 4, 64);
    return p;
  }

  void run(const RunContext& c, const AttentionPlan& p) const {
    split(c.pool, p.heads.batch * p.heads.heads * p.q_blocks, 1, p.parts, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) one(c, p, i, thread);
    });
  }

  void one(const RunContext& c, const AttentionPlan& p, int64_t task, int thread) const {
    const Heads& heads = p.heads;
    const int64_t block = task % p.q_blocks, h = task / p.q_blocks % heads.heads, n = task / p.q_blocks / heads.heads;
    AttentionArgs a{};
    a.q = c.in<float>(0) + heads.q.at(n, h);
    a.k = c.in<float>(1) + heads.k.at(n, h);
    a.v = c.in<float>(2) + heads.v.at(n, h);
    a.q_stride = heads.q.row;
    a.k_stride = heads.k.row;
    a.v_stride = heads.v.row;
    a.keys = heads.keys;
    a.dim = heads.dim;
    a.value_dim = heads.value_dim;
    a.q_begin = block * p.q_block;
    a.q_end = std::min(heads.queries, a.q_begin + p.q_block);
    if (masked_) {
      const int64_t at = heads.mask_at(n, h);
      a.mask = bool_mask_ ? nullptr : c.in<float>(3) + at;
      a.mask_bool = bool_mask_ ? c.in<uint8_t>(3) + at : nullptr;
      a.mask_stride = heads.mask[2];
      a.mask_step = heads.mask[3];
    }
    a.causal = causal_;
    a.scale = scale_;
    a.out = c.out<float>() + heads.out.at(n, h);
    a.out_stride = heads.out.row;
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
  if (node.op == "sdpa" && g.value(node.inputs[0]).dtype == DType::f32)
    return std::make_unique<Attention>(g, node, config);
  if (node.op == "matmul") return std::make_unique<MatMul>(config);
  return nullptr;
}

}  // namespace taille
