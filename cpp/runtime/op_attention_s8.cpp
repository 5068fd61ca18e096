// Scaled dot-product attention of uint8 q, k and v: both products on gemm_s8, a block of query rows at a time, so that
// no whole matrix of scores exists. See kernels/attention_s8.h.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "kernels/attention_s8.h"
#include "kernels/gemm_s8.h"
#include "runtime/heads.h"
#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kMaxKeys = 65793;  // 65793 * 255 * 128 < 2^31
constexpr int64_t kScoreRows = 64;   // of scores at a time: with 128 keys they take half of the L1 cache, with 512 an
                                     // eighth of L2

// One thread's scratch, as byte offsets.
struct Places {
  int64_t keys, key_offsets, values, scores, weights, products, factors, gemm, size;
};

struct PlanS8 {
  Heads heads;
  int64_t padded_keys;
  int64_t q_block, q_blocks;
  int parts;
  Places at;
  // What gemm_s8 wants by column.
  std::vector<float> score_scale, ones, zeros;
  std::vector<int32_t> no_offset;
};

// Addresses of one thread's scratch.
struct Work {
  int8_t* keys;
  int32_t* key_offsets;
  int8_t* values;
  float* scores;
  uint8_t* weights;
  float* products;
  float* factors;
  uint8_t* gemm;
};

class AttentionS8 final : public Operator {
 public:
  AttentionS8(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config),
        gemm_(select_kernel(gemm_s8_table(), config.isa)),
        pack_keys_(select_kernel(pack_keys_table(), config.isa)),
        pack_values_(select_kernel(pack_values_table(), config.isa)),
        softmax_(select_kernel(softmax_u8_table(), config.isa)),
        scale_rows_(select_kernel(scale_rows_table(), config.isa)),
        causal_(node.attr<bool>("causal")),
        heads_last_(node.attr<bool>("heads_last")),
        masked_(node.has_input(3)),
        bool_mask_(masked_ && g.value(node.inputs[3]).dtype == DType::boolean) {
    const Quant q = *g.value(node.inputs[0]).quant, k = *g.value(node.inputs[1]).quant,
                v = *g.value(node.inputs[2]).quant;
    const Value& out = g.value(node.output);
    // Everything in double, rounded once: these are constants of the model, the same on every machine.
    q_zero_point_ = q.zero_point;
    score_scale_ =
        static_cast<float>(static_cast<double>(q.scale) * k.scale * node.attr<double>("scale") * std::numbers::log2e);
    out_f32_ = out.dtype == DType::f32;
    const double step = out_f32_ ? 1.0 : out.quant->scale, zero = out_f32_ ? 0.0 : out.quant->zero_point;
    out_scale_ = static_cast<float>(v.scale / step);
    shift_ = static_cast<float>(zero - (v.zero_point - 128) * (v.scale / step));
    zero_ = static_cast<float>(zero);
  }

  std::string kernel() const override { return gemm_.name; }

  Planned plan(const NodeShapes& shapes) const override {
    auto p = std::make_shared<PlanS8>();
    p->heads = heads_of(shapes, heads_last_);
    const Heads& h = p->heads;
    check(h.keys <= kMaxKeys && h.dim <= kMaxKeys, "int8 attention over ", h.keys, " keys of ", h.dim,
          " is too long for exact sums; wanted at most ", kMaxKeys);
    p->padded_keys = round_up(std::max<int64_t>(1, h.keys), 16);
    p->parts = worth_forking(config_, h.macs() / (0.2 * mac_rate(config_.isa, true)));
    p->q_block = query_block(h, p->parts);
    p->q_blocks = (h.queries + p->q_block - 1) / p->q_block;
    p->score_scale.assign(static_cast<size_t>(h.keys), score_scale_);
    const auto columns = static_cast<size_t>(std::max(h.keys, h.value_dim));
    p->ones.assign(columns, 1.0f);
    p->zeros.assign(columns, 0.0f);
    p->no_offset.assign(columns, 0);
    p->at = places(h, p->padded_keys);
    return {[this, p](const RunContext& c) { run(c, *p); }, p->at.size * config_.threads};
  }

 private:
  EngineConfig config_;
  const KernelRow<GemmS8Args>& gemm_;
  const KernelRow<PackKeysArgs>& pack_keys_;
  const KernelRow<PackValuesArgs>& pack_values_;
  const KernelRow<SoftmaxU8Args>& softmax_;
  const KernelRow<ScaleRowsArgs>& scale_rows_;
  bool causal_, heads_last_, masked_, bool_mask_;
  int32_t q_zero_point_ = 0;
  float score_scale_ = 0, out_scale_ = 0, shift_ = 0, zero_ = 0;
  bool out_f32_ = false;

  static Places places(const Heads& h, int64_t padded_keys) {
    Places p{};
    auto take = [&p](int64_t bytes) {
      const int64_t at = p.size;
      p.size += round_up(bytes, 64);
      return at;
    };
    p.keys = take(gemm_s8_packed_bytes(h.keys, h.dim));
    p.key_offsets = take(h.keys * 4);
    p.values = take(gemm_s8_packed_bytes(h.value_dim, padded_keys));
    p.scores = take(kScoreRows * h.keys * 4);
    p.weights = take(kScoreRows * padded_keys);
    p.products = take(kScoreRows * h.value_dim * 4);
    p.factors = take(kScoreRows * 4);
    p.gemm = take(gemm_s8_scratch_bytes(std::max(h.dim, padded_keys)));
    return p;
  }

  void run(const RunContext& c, const PlanS8& p) const {
    split(c.pool, p.heads.batch * p.heads.heads * p.q_blocks, 1, p.parts, [&](int64_t begin, int64_t end, int thread) {
      uint8_t* base = c.scratch + thread * p.at.size;
      const Work w{reinterpret_cast<int8_t*>(base + p.at.keys),
                   reinterpret_cast<int32_t*>(base + p.at.key_offsets),
                   reinterpret_cast<int8_t*>(base + p.at.values),
                   reinterpret_cast<float*>(base + p.at.scores),
                   base + p.at.weights,
                   reinterpret_cast<float*>(base + p.at.products),
                   reinterpret_cast<float*>(base + p.at.factors),
                   base + p.at.gemm};
      int64_t packed = -1;  // the head whose keys and values lie there
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / p.q_blocks, first = i % p.q_blocks * p.q_block;
        if (head != packed) pack(c, p, head, w);
        packed = head;
        const int64_t last = std::min(p.heads.queries, first + p.q_block);
        for (int64_t row = first; row < last; row += kScoreRows)
          rows(c, p, head, w, row, std::min(last, row + kScoreRows));
      }
    });
  }

  void pack(const RunContext& c, const PlanS8& p, int64_t head, const Work& w) const {
    const Heads& h = p.heads;
    const int64_t n = head / h.heads, i = head % h.heads;
    pack_keys_.run({c.in<uint8_t>(1) + h.k.at(n, i), h.k.row, h.keys, h.dim, q_zero_point_, w.keys, w.key_offsets});
    pack_values_.run({c.in<uint8_t>(2) + h.v.at(n, i), h.v.row, h.keys, p.padded_keys, h.value_dim, w.values});
  }

  // Query rows begin .. end-1 of one head.
  void rows(const RunContext& c, const PlanS8& p, int64_t head, const Work& w, int64_t begin, int64_t end) const {
    const Heads& h = p.heads;
    const int64_t n = head / h.heads, i = head % h.heads;
    GemmS8Args scores = product_args(p, w, end - begin);
    scores.a = c.in<uint8_t>(0) + h.q.at(n, i) + begin * h.q.row;
    scores.lda = h.q.row;
    scores.k = h.dim;
    scores.packed = w.keys;
    scores.n = scores.ldc = h.keys;
    scores.n_end = causal_ ? std::min(h.keys, round_up(end, 64)) : h.keys;
    scores.offset = w.key_offsets;
    scores.scale = p.score_scale.data();
    scores.out = w.scores;
    gemm_.run(scores);

    softmax_.run(weights(c, p, head, w, begin, end));

    GemmS8Args products = product_args(p, w, end - begin);
    products.a = w.weights;
    products.lda = products.k = p.padded_keys;
    products.packed = w.values;
    products.n = products.n_end = products.ldc = h.value_dim;
    products.offset = p.no_offset.data();
    products.scale = p.ones.data();
    products.out = w.products;
    gemm_.run(products);

    const int64_t at = h.out.at(n, i) + begin * h.out.row;
    uint8_t* out = c.out<uint8_t>() + at * (out_f32_ ? 4 : 1);
    scale_rows_.run(
        {w.products, end - begin, h.value_dim, w.factors, out_scale_, shift_, zero_, out, h.out.row, out_f32_});
  }

  GemmS8Args product_args(const PlanS8& p, const Work& w, int64_t rows) const {
    GemmS8Args args{};
    args.taps = 1;
    args.m_end = rows;
    args.bias = p.zeros.data();
    args.lo = -std::numeric_limits<float>::infinity();
    args.hi = std::numeric_limits<float>::infinity();
    args.out_f32 = true;
    args.scratch = w.gemm;
    return args;
  }

  SoftmaxU8Args weights(const RunContext& c, const PlanS8& p, int64_t head, const Work& w, int64_t begin,
                        int64_t end) const {
    const Heads& h = p.heads;
    SoftmaxU8Args args{};
    args.scores = w.scores;
    args.score_stride = args.keys = h.keys;
    args.begin = begin;
    args.end = end;
    if (masked_) {
      const int64_t at = h.mask_at(head / h.heads, head % h.heads);
      args.mask = bool_mask_ ? nullptr : c.in<float>(3) + at;
      args.mask_bool = bool_mask_ ? c.in<uint8_t>(3) + at : nullptr;
      args.mask_stride = h.mask[2];
      args.mask_step = h.mask[3];
    }
    args.causal = causal_;
    args.out = w.weights;
    args.padded_keys = p.padded_keys;
    args.factor = w.factors;
    return args;
  }
};

}  // namespace

OperatorPtr make_attention_s8(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "sdpa" || g.value(node.inputs[0]).dtype != DType::u8) return nullptr;
  return std::make_unique<AttentionS8>(g, node, config);
}

}  // namespace taille
