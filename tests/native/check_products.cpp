// gemm_s8, gemm_f32 and gemm_sparse_f32.
#include <cmath>

#include "base/dtype.h"
#include "check.h"
#include "kernels/gemm_f32.h"
#include "kernels/gemm_s8.h"
#include "kernels/gemm_sparse_f32.h"
#include "kernels/half.h"

namespace taille::check {
namespace {

// Rows of `a`: k elements each, `slack` apart, or through offsets, a quarter of them padding.
struct Shape {
  int64_t m, n, k, taps, slack;
  std::vector<int32_t> offsets;

  Shape(Random& r, int64_t rows, int64_t columns, int64_t depth) : m(rows), n(columns), k(depth), taps(1), slack(0) {
    if (r.one_in(2)) {
      slack = r.from(0, 5);
      return;
    }
    taps = r.from(1, 4);
    const int64_t size = a_size();
    offsets = r.integers<int32_t>(m * taps, 0, size - k);
    for (int32_t& offset : offsets)
      if (r.one_in(4)) offset = -1;
    offsets[0] = static_cast<int32_t>(size - k);
  }
  int64_t a_size() const { return m * k + (m - 1) * slack; }
  std::string text() const {
    return "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k) + " taps " +
           std::to_string(taps) + (offsets.empty() ? " in place" : " by offsets");
  }
};

// Which rows and columns to do.
template <class Args>
void choose_part(Random& r, Args& g, int64_t m, int64_t n) {
  g.m_end = m;
  g.n = g.n_end = n;
  if (m > 3 && r.one_in(3)) g.m_begin = r.from(1, 2), g.m_end = m - 1;
  if (n > 64 && r.one_in(3)) r.one_in(2) ? g.n_begin = 64 : g.n_end = 64;
}

void one_gemm_s8(Checker& checker, Random& r, const Shape& s, bool extreme) {
  const int64_t depth = s.k * s.taps;
  auto a = r.integers<uint8_t>(s.a_size(), 0, 255);
  auto w = r.integers<int8_t>(s.n * depth, -128, 127);
  if (extreme) {
    a.assign(a.size(), 255);
    w.assign(w.size(), r.any<int8_t>({-128, 127, -127}));
  }
  std::vector<int32_t> offset(static_cast<size_t>(s.n));
  for (int64_t j = 0; j < s.n; ++j)
    for (int64_t p = 0; p < depth; ++p) offset[static_cast<size_t>(j)] -= 128 * w[static_cast<size_t>(j * depth + p)];
  const float spread = 1.0f / (3000.0f * std::sqrt(static_cast<float>(depth)));
  auto scale = r.floats(s.n, 0.2f * spread, 2.0f * spread), bias = r.floats(s.n, 60.0f, 200.0f);
  const bool wild = r.one_in(6);
  for (float& x : bias)
    if (wild) x = r.any({std::nanf(""), kInfinity, -kInfinity, 3e9f, -3e9f, 1e30f, 100.0f});

  GemmS8Args g{};
  choose_part(r, g, s.m, s.n);
  g.k = s.k, g.taps = s.taps, g.lda = s.k + s.slack;
  g.out_f32 = r.one_in(2);
  g.lo = r.any({0.0f, 3.0f}), g.hi = r.any({255.0f, 200.0f});
  g.residual_scale = 0.37f;
  g.residual_stride = s.n + r.from(0, 3);
  g.ldc = s.n + r.from(0, 3);
  const auto elements = static_cast<size_t>((s.m - 1) * g.residual_stride + s.n);
  const auto bytes_residual = r.integers<uint8_t>(static_cast<int64_t>(elements), 0, 255);
  const std::vector<float> float_residual(bytes_residual.begin(), bytes_residual.end());
  std::vector<int8_t> packed(static_cast<size_t>(gemm_s8_packed_bytes(s.n, depth)));
  gemm_s8_pack(w.data(), s.n, depth, packed.data());

  const Guarded rows = guarded(a), weights = guarded(packed), at = guarded(s.offsets), added = guarded(offset);
  const Guarded scales = guarded(scale), biases = guarded(bias);
  const Guarded pad = guarded(std::vector<uint8_t>(static_cast<size_t>(s.k), extreme ? 255 : 128));
  const Guarded residual = g.out_f32 ? guarded(float_residual) : guarded(bytes_residual);
  g.a = rows.data(), g.packed = weights.as<int8_t>(), g.pad_row = pad.data();
  g.offsets = s.offsets.empty() ? nullptr : at.as<int32_t>();
  g.offset = added.as<int32_t>(), g.scale = scales.as<float>(), g.bias = biases.as<float>();
  if (r.one_in(2)) g.residual = residual.data();
  g.bounded = gemm_s8_bounded(g) && r.one_in(2);
  g.pairs_fit = gemm_s8_pairs_fit(g.packed, s.n, depth);
  const size_t element = g.out_f32 ? 4 : 1;
  checker.compare(
      "gemm_s8", s.text(), gemm_s8_table(), g,
      {{g.out_f32 ? Output::Kind::floats : Output::Kind::bytes, static_cast<size_t>((s.m - 1) * g.ldc + s.n) * element,
        [&](uint8_t* p) { g.out = p; }},
       {Output::Kind::scratch, static_cast<size_t>(gemm_s8_scratch_bytes(depth)), [&](uint8_t* p) { g.scratch = p; }}});
}

// What gemm_f32 and gemm_sparse_f32 share.
struct FloatProduct {
  Guarded a, offsets, pad, bias, residual;
  GemmF32Args args{};

  FloatProduct(Random& r, const Shape& s)
      : a(guarded(r.floats(s.a_size(), -2.0f, 2.0f))),
        offsets(guarded(s.offsets)),
        pad(guarded(std::vector<float>(static_cast<size_t>(s.k)))),
        bias(guarded(r.floats(s.n, -2.0f, 2.0f))),
        residual(guarded(r.floats(s.m * s.n, -2.0f, 2.0f))) {
    choose_part(r, args, s.m, s.n);
    args.a = a.as<float>(), args.lda = s.k + s.slack, args.k = s.k, args.taps = s.taps;
    args.offsets = s.offsets.empty() ? nullptr : offsets.as<int32_t>();
    args.pad_row = pad.as<float>();
    if (r.one_in(2)) args.bias = bias.as<float>();
    if (r.one_in(2)) args.residual = residual.as<float>();
    args.residual_stride = s.n;
    args.lo = r.any({-kInfinity, 0.0f}), args.hi = r.any({kInfinity, 3.0f});
    args.ldc = s.n + r.from(0, 3);
    args.packed_type = DType::f32;
  }
};

void one_gemm_f32(Checker& checker, Random& r, const Shape& s) {
  FloatProduct x(r, s);
  GemmF32Args& g = x.args;
  const int64_t depth = s.k * s.taps, elements = gemm_f32_packed_elements(s.n, depth);
  const auto w = r.floats(s.n * depth, -1.0f, 1.0f);
  g.packed_type = r.any({DType::f32, DType::f32, DType::f16, DType::bf16});
  std::vector<uint16_t> half(w.size()), packed_half(static_cast<size_t>(elements));
  std::vector<float> packed(static_cast<size_t>(elements));
  if (is_half(g.packed_type)) {
    narrow_table().back().run({w.data(), s.n * depth, g.packed_type, half.data()});
    gemm_f32_pack(g.packed_type, half.data(), depth, 1, s.n, depth, packed_half.data());
  } else {
    gemm_f32_pack(g.packed_type, w.data(), depth, 1, s.n, depth, packed.data());
  }
  const Guarded weights = is_half(g.packed_type) ? guarded(packed_half) : guarded(packed);
  g.packed = weights.data();
  checker.compare("gemm_f32", s.text(), gemm_f32_table(), g,
                  {{Output::Kind::floats, static_cast<size_t>((s.m - 1) * g.ldc + s.n) * 4,
                    [&](uint8_t* p) { g.out = reinterpret_cast<float*>(p); }},
                   {Output::Kind::scratch, static_cast<size_t>(gemm_f32_scratch_bytes(g.packed_type, s.n, depth)),
                    [&](uint8_t* p) { g.scratch = reinterpret_cast<float*>(p); }}});
}

void one_gemm_sparse_f32(Checker& checker, Random& r, const Shape& s, int64_t block_rows) {
  FloatProduct x(r, s);
  const int64_t depth = s.k * s.taps;
  auto w = r.floats(s.n * depth, -1.0f, 1.0f);
  for (int64_t j = 0; j < s.n; j += block_rows)
    for (int64_t p = 0; p < depth; p += 4)
      if (!r.one_in(3))
        for (int64_t i = 0; i < block_rows; ++i)
          for (int64_t q = 0; q < 4; ++q) w[static_cast<size_t>((j + i) * depth + p + q)] = 0;
  const auto blocks = static_cast<size_t>(gemm_sparse_f32_count(w.data(), s.n, depth, block_rows));
  std::vector<uint32_t> begin(static_cast<size_t>(s.n / block_rows + 1));
  std::vector<uint16_t> inputs(blocks);
  std::vector<float> values(blocks * static_cast<size_t>(4 * block_rows));
  gemm_sparse_f32_pack(w.data(), s.n, depth, block_rows, begin.data(), inputs.data(), values.data());
  const Guarded begins = guarded(begin), taken = guarded(inputs), kept = guarded(values);
  GemmSparseF32Args g{x.args, {block_rows, begins.as<uint32_t>(), taken.as<uint16_t>(), kept.as<float>()}};
  checker.compare("gemm_sparse_f32", s.text() + " blocks of " + std::to_string(block_rows), gemm_sparse_f32_table(), g,
                  {{Output::Kind::floats, static_cast<size_t>((s.m - 1) * g.product.ldc + s.n) * 4,
                    [&](uint8_t* p) { g.product.out = reinterpret_cast<float*>(p); }},
                   {Output::Kind::scratch, static_cast<size_t>(gemm_sparse_f32_scratch_bytes(s.n, depth)),
                    [&](uint8_t* p) { g.product.scratch = reinterpret_cast<float*>(p); }}});
}

}  // namespace

// Arguments of a call have no order, so random ones are drawn before it or within braces: the same everywhere.
void check_products(Checker& checker, Random& r) {
  const auto columns = [&] { return r.any<int64_t>({1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130}); };
  for (int i = 0; i < 220; ++i) {
    const int64_t rows = r.one_in(12) ? r.from(90, 110) : r.from(1, 20);
    const int64_t depth = r.one_in(4) ? r.from(60, 300) : r.from(1, 40);
    const bool extreme = r.one_in(5);
    one_gemm_s8(checker, r, Shape{r, rows, columns(), depth}, extreme);
  }
  for (int64_t depth : {16, 20, 64, 512})  // all residues of rows by tiles
    for (int64_t rows = 1; rows <= 13; ++rows) one_gemm_s8(checker, r, Shape{r, rows, 64, depth}, false);
  for (int i = 0; i < 160; ++i) one_gemm_f32(checker, r, Shape{r, r.from(1, 30), columns(), r.from(1, 40)});
  for (int64_t depth : {300, 600, 1024, 2048})  // in blocks, and rows that are copied
    for (int64_t rows : {3, 25, 30}) one_gemm_f32(checker, r, Shape{r, rows, 80, depth});
  for (int i = 0; i < 60; ++i) {
    const int64_t block_rows = r.any<int64_t>({1, 2, 4});
    one_gemm_sparse_f32(checker, r, Shape{r, r.from(1, 40), 4 * r.from(1, 20), 4 * r.from(1, 20)}, block_rows);
  }
}

}  // namespace taille::check
