// Linear layers: one matrix product over all leading dimensions. Weights of 16 bits stay so in memory.
#include <cmath>

#include "kernels/gemm_f32.h"
#include "kernels/gemm_s8.h"
#include "runtime/epilogue.h"
#include "runtime/operator.h"
#include "runtime/partition.h"
#include "runtime/sparse_weight.h"
#include "runtime/sparse_weight_f32.h"

namespace taille {

namespace {

class LinearF32 final : public Operator {
 public:
  LinearF32(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config), kernel_(select_kernel(gemm_f32_table(), config.isa)) {
    const Tensor& weight = *g.value(node.inputs[1]).constant;
    type_ = weight.dtype;
    n_ = weight.dims[0];
    k_ = weight.dims[1];
    packed_ = Buffer(static_cast<size_t>(gemm_f32_packed_elements(n_, k_)) * size_of(type_));
    gemm_f32_pack(type_, weight.data.data(), k_, 1, n_, k_, packed_.data());
    if (node.has_input(2)) bias_ = g.value(node.inputs[2]).constant;
    residual_ = node.has_input(3);
    lo_ = static_cast<float>(node.attr<double>("lo"));
    hi_ = static_cast<float>(node.attr<double>("hi"));
    sparse_ = SparseWeightF32::of(weight, n_, 1, k_, packed_.data(), kernel_, config.isa);
  }

  std::string kernel() const override { return sparse_ ? sparse_->describe() : kernel_.name; }
  bool strided_output() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t m = product(shapes.output) / std::max<int64_t>(1, n_);
    const bool sparse = sparse_ && sparse_->serves(m);
    const int64_t depth = sparse ? sparse_->depth() : k_;
    const int parts = worth_forking(config_, product_seconds(config_.isa, false, m, n_, depth));
    GemmPartition how = partition_gemm(m, n_, m * k_ * 4, n_ * depth * static_cast<int64_t>(size_of(type_)), parts);
    if (sparse) sparse_->share_blocks(how);
    const int64_t dense = m > kGemmF32DirectRows ? gemm_f32_scratch_bytes(type_, n_, k_) : 0;
    const int64_t scratch = round_up(sparse ? sparse_->scratch_bytes() : dense, 64);
    const int64_t stride = shapes.output_stride;
    return {[this, m, stride, how, scratch](const RunContext& c) { run(c, m, stride, how, scratch); },
            scratch * config_.threads};
  }

 private:
  EngineConfig config_;
  const KernelRow<GemmF32Args>& kernel_;
  TensorPtr bias_;
  DType type_ = DType::f32;  // of the weights
  Buffer packed_;
  std::optional<SparseWeightF32> sparse_;
  BackAndForth order_;
  int64_t n_ = 0, k_ = 0;
  bool residual_ = false;
  float lo_ = 0, hi_ = 0;

  void run(const RunContext& c, int64_t m, int64_t stride, const GemmPartition& how, int64_t scratch) const {
    GemmF32Args args{};
    args.a = c.in<float>(0);
    args.lda = k_;
    args.taps = 1;
    args.k = k_;
    args.packed = packed_.data();
    args.packed_type = type_;
    args.n = n_;
    args.bias = bias_ ? bias_->as<float>() : nullptr;
    args.residual = residual_ ? c.in<float>(3) : nullptr;
    args.residual_stride = n_;
    args.lo = lo_;
    args.hi = hi_;
    args.out = c.out<float>();
    args.ldc = stride;
    const bool sparse = sparse_ && sparse_->serves(m);
    const bool back = !sparse && order_.turn(m);
    for_parts(c.pool, how, m, n_, [&](const GemmPartition::Part& p, int thread) {
      GemmF32Args part = args;
      part.scratch = reinterpret_cast<float*>(c.scratch + thread * scratch);
      part.m_begin = p.m_begin;
      part.m_end = p.m_end;
      BackAndForth::for_columns(p, back, [&](int64_t begin, int64_t end) {
        part.n_begin = begin;
        part.n_end = end;
        if (sparse)
          sparse_->run(part);
        else
          kernel_.run(part);
      });
    });
  }
};

class LinearS8 final : public Operator {
 public:
  LinearS8(const Graph& g, const Node& node, const EngineConfig& config)
      : config_(config), kernel_(select_kernel(gemm_s8_table(), config.isa)), epilogue_(int8_epilogue(g, node)) {
    const Tensor& w = *g.value(node.inputs[1]).constant;
    n_ = w.dims[0];
    k_ = w.dims[1];
    packed_ = Buffer(static_cast<size_t>(gemm_s8_packed_bytes(n_, k_)));
    gemm_s8_pack(w.as<int8_t>(), n_, k_, packed_.data<int8_t>());
    pairs_fit_ = gemm_s8_pairs_fit(packed_.data<int8_t>(), n_, k_);
    residual_ = node.has_input(3);
    sparse_ = SparseWeight::of(w.as<int8_t>(), n_, 1, k_, packed_.data<int8_t>(), kernel_, config.isa);
    if (sparse_ && sparse_->serves_all()) packed_ = Buffer();
  }

  std::string kernel() const override { return sparse_ ? sparse_->describe() : kernel_.name; }
  bool strided_output() const override { return true; }

  Planned plan(const NodeShapes& shapes) const override {
    const int64_t m = product(shapes.output) / std::max<int64_t>(1, n_);
    const bool sparse = sparse_ && sparse_->serves(m);
    const int64_t depth = sparse ? sparse_->depth() : k_;
    const int parts = worth_forking(config_, product_seconds(config_.isa, true, m, n_, depth));
    const int64_t scratch = round_up(std::max(gemm_s8_scratch_bytes(k_), sparse_ ? sparse_->scratch_bytes() : 0), 64);
    GemmPartition how = partition_gemm(m, n_, m * k_, n_ * depth, parts);
    if (sparse) sparse_->share_blocks(how);
    const int64_t stride = shapes.output_stride;
    return {[this, m, stride, how, scratch](const RunContext& c) { run(c, m, stride, how, scratch); },
            scratch * config_.threads};
  }

 private:
  EngineConfig config_;
  const KernelRow<GemmS8Args>& kernel_;
  Int8Epilogue epilogue_;
  Buffer packed_;
  std::optional<SparseWeight> sparse_;
  BackAndForth order_;
  int64_t n_ = 0, k_ = 0;
  bool residual_ = false, pairs_fit_ = false;

  void run(const RunContext& c, int64_t m, int64_t stride, const GemmPartition& how, int64_t scratch) const {
    GemmS8Args args = epilogue_.gemm_args();
    args.a = c.in<uint8_t>(0);
    args.lda = k_;
    args.taps = 1;
    args.k = k_;
    args.packed = packed_.data<int8_t>();
    args.pairs_fit = pairs_fit_;
    args.residual = residual_ ? c.inputs[3] : nullptr;
    args.residual_stride = n_;
    args.out = c.output;
    args.ldc = stride;
    const bool sparse = sparse_ && sparse_->serves(m);
    const bool back = !sparse && order_.turn(m);
    for_parts(c.pool, how, m, n_, [&](const GemmPartition::Part& p, int thread) {
      GemmS8Args part = args;
      part.m_begin = p.m_begin;
      part.m_end = p.m_end;
      part.scratch = c.scratch + thread * scratch;
      BackAndForth::for_columns(p, back, [&](int64_t begin, int64_t end) {
        part.n_begin = begin;
        part.n_end = end;
        if (sparse)
          sparse_->run(part);
        else
          kernel_.run(part);
      });
    });
  }
};

}  // namespace

OperatorPtr make_linear(const Graph& g, const Node& node, const EngineConfig& config) {
  if (node.op != "linear") return nullptr;
  if (g.value(node.inputs[1]).dtype == DType::s8) return std::make_unique<LinearS8>(g, node, config);
  return std::make_unique<LinearF32>(g, node, config);
}

}  // namespace taille
