// Element by element: arithmetic, conversions, masks.
#include <bit>
#include <cmath>

#include "check.h"
#include "kernels/elementwise.h"
#include "kernels/half.h"
#include "kernels/pruning_mask.h"
#include "kernels/quantize.h"

namespace taille::check {
namespace {

std::vector<float> wild_floats(Random& r, int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = r.one_in(12) ? r.any({0.0f, -0.0f, kInfinity, -kInfinity, std::nanf(""), 0.5f}) : r.wild();
  return out;
}

std::vector<float> any_bits(Random& r, int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = std::bit_cast<float>(static_cast<uint32_t>(r.bits()));
  return out;
}

Output floats(int64_t n, float*& to) {
  return {Output::Kind::floats, static_cast<size_t>(n) * 4, [&to](uint8_t* p) { to = reinterpret_cast<float*>(p); }};
}
Output bytes(int64_t n, uint8_t*& to) {
  return {Output::Kind::bytes, static_cast<size_t>(n), [&to](uint8_t* p) { to = p; }};
}

void arithmetic(Checker& checker, Random& r, int64_t n) {
  const Guarded a = guarded(wild_floats(r, n)), b = guarded(wild_floats(r, n));
  for (int op = 0; op <= static_cast<int>(UnaryOp::hardsigmoid); ++op) {
    UnaryArgs g{static_cast<UnaryOp>(op), a.as<float>(), n, -1.5f, 40.0f, nullptr};
    checker.compare("unary", "op " + std::to_string(op) + " n " + std::to_string(n), unary_table(), g,
                    {floats(n, g.out)});
  }
  for (int op = 0; op < static_cast<int>(BinaryOp::pow); ++op)  // pow is the C library's
    for (int64_t steps = 0; steps < 4; ++steps) {
      BinaryArgs g{static_cast<BinaryOp>(op), a.as<float>(), b.as<float>(), steps & 1, steps >> 1, n, nullptr};
      checker.compare("binary", "op " + std::to_string(op) + " n " + std::to_string(n), binary_table(), g,
                      {floats(n, g.out)});
    }
}

void to_and_from_bytes(Checker& checker, Random& r, int64_t n) {
  const std::string what = "n " + std::to_string(n);
  const Guarded x = guarded(wild_floats(r, n));
  const Guarded a = guarded(r.integers<uint8_t>(n, 0, 255)), b = guarded(r.integers<uint8_t>(n, 0, 255));
  QuantizeArgs q{x.as<float>(), n, r.uniform(0.5f, 2.0f), static_cast<float>(r.from(0, 255)), nullptr};
  checker.compare("quantize", what, quantize_table(), q, {bytes(n, q.out)});
  DequantizeArgs d{a.data(), n, r.uniform(0.01f, 0.1f), static_cast<int32_t>(r.from(0, 255)), nullptr};
  checker.compare("dequantize", what, dequantize_table(), d, {floats(n, d.out)});
  AddU8Args s{a.data(),
              r.one_in(3) ? nullptr : b.data(),
              n,
              r.uniform(0.2f, 1.5f),
              r.uniform(0.2f, 1.5f),
              r.uniform(-90, 90),
              r.any({0.0f, 10.0f}),
              250.f,
              nullptr};
  checker.compare("add_u8", what, add_u8_table(), s, {bytes(n, s.out)});
  ObserveArgs o{x.as<float>(), n, nullptr, nullptr, nullptr};
  const std::vector<uint8_t> zeros(8);
  checker.compare(
      "observe", what, observe_table(), o,
      {{Output::Kind::floats, 4, [&](uint8_t* p) { o.minimum = reinterpret_cast<float*>(p); }, {0, 0, 0, 0}},
       {Output::Kind::floats, 4, [&](uint8_t* p) { o.maximum = reinterpret_cast<float*>(p); }, {0, 0, 0, 0}},
       {Output::Kind::bytes, 8, [&](uint8_t* p) { o.bad = reinterpret_cast<int64_t*>(p); }, zeros}});
}

void halves(Checker& checker, const std::vector<uint16_t>& in, const std::vector<float>& wide) {
  const Guarded narrow = guarded(in), x = guarded(wide);
  for (DType type : {DType::f16, DType::bf16}) {
    WidenArgs w{narrow.data(), static_cast<int64_t>(in.size()), type, nullptr};
    checker.compare("widen", "n " + std::to_string(in.size()), widen_table(), w, {floats(w.n, w.out)});
    NarrowArgs n{x.as<float>(), static_cast<int64_t>(wide.size()), type, nullptr};
    checker.compare("narrow", "n " + std::to_string(wide.size()), narrow_table(), n,
                    {{Output::Kind::bytes, wide.size() * 2, [&](uint8_t* p) { n.out = p; }}});
  }
}

void masks(Checker& checker, Random& r, int64_t rows, int64_t columns) {
  const std::string what = std::to_string(rows) + " x " + std::to_string(columns);
  auto w = r.floats(rows * columns, -1.0f, 1.0f);
  for (float& x : w)
    if (r.one_in(4)) x = r.any({0.25f, -0.25f, 0.0f, 1e-40f});
  const Guarded weights = guarded(w), norms = guarded(r.floats(columns, 0.1f, 2.0f));
  const ScoredMatrix x{weights.as<float>(), r.one_in(2) ? norms.as<float>() : nullptr, columns};
  const int64_t begin = r.from(0, 3), end = rows * columns - r.from(0, 3);
  const auto counts = [](int64_t n, int64_t*& to) -> Output {
    return {Output::Kind::bytes, static_cast<size_t>(n) * 8, [&to](uint8_t* p) { to = reinterpret_cast<int64_t*>(p); },
            std::vector<uint8_t>(static_cast<size_t>(n) * 8)};
  };
  ScoreBinsArgs bins{x, begin, end, 0x3C000000, 18, 8, nullptr, nullptr};
  checker.compare("score_bins", what, score_bins_table(), bins, {counts(256, bins.counts), counts(1, bins.above)});
  ApplyMaskArgs apply{x, begin, end, 0x3E800000, nullptr, nullptr};  // 0.25
  Output ties = counts(1, apply.ties);
  ties.before[0] = 3;
  checker.compare("apply_mask", what, apply_mask_table(), apply, {ties, bytes(rows * columns, apply.mask)});
  for (int64_t block : {1, 4, columns == 48 ? 16 : 4}) {
    BlockScoresArgs blocks{x, 0, rows, 4, block, false, nullptr};
    checker.compare("block_scores", what, block_scores_table(), blocks,
                    {floats(rows / 4 * columns / block, blocks.out)});
  }
  NmMaskArgs nm{x, 0, rows, 2, 4, nullptr};
  checker.compare("nm_mask", what, nm_mask_table(), nm, {bytes(rows * columns, nm.mask)});
}

}  // namespace

void check_elements(Checker& checker, Random& r) {
  for (int64_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 47, 64, 100, 4000}) {
    arithmetic(checker, r, n);
    to_and_from_bytes(checker, r, n);
    const auto narrow = r.integers<uint16_t>(n, 0, 0xFFFF);
    halves(checker, narrow, any_bits(r, n));
  }
  std::vector<uint16_t> every(0x10000);
  for (size_t i = 0; i < every.size(); ++i) every[i] = static_cast<uint16_t>(i);
  halves(checker, every, any_bits(r, 20000));
  for (int i = 0; i < 12; ++i) {
    const int64_t rows = 4 * r.from(1, 5);
    masks(checker, r, rows, r.any<int64_t>({4, 12, 20, 48, 64}));
  }
}

}  // namespace taille::check
