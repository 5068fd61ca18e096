// Attention in float32, and the steps of int8 attention around its products.
#include "check.h"
#include "kernels/attention.h"
#include "kernels/attention_s8.h"
#include "kernels/gemm_s8.h"

namespace taille::check {
namespace {

struct Masks {
  Guarded added, allowed;
  Masks(Random& r, int64_t queries, int64_t keys)
      : added(guarded(r.floats(queries * keys, -4.0f, 0.0f))),
        allowed(guarded(r.integers<uint8_t>(queries * keys, 0, 1))) {}
};

template <class Args>
void choose_mask(Random& r, Args& g, const Masks& masks, int64_t keys) {
  const int64_t which = r.from(0, 3);
  if (which == 1) g.mask = masks.added.as<float>();
  if (which == 2) g.mask_bool = masks.allowed.data();
  g.causal = which == 3;
  g.mask_stride = keys;
  g.mask_step = 1;
}

void one_attention(Checker& checker, Random& r, int64_t queries, int64_t keys, int64_t dim) {
  AttentionArgs g{};
  g.keys = keys, g.dim = dim, g.value_dim = r.one_in(2) ? dim : r.from(1, 40), g.q_end = queries;
  g.q_stride = g.k_stride = dim + r.from(0, 3), g.v_stride = g.out_stride = g.value_dim + r.from(0, 3);
  const Guarded q = guarded(r.floats((queries - 1) * g.q_stride + dim, -2.0f, 2.0f));
  const Guarded k = guarded(r.floats((keys - 1) * g.k_stride + dim, -2.0f, 2.0f));
  const Guarded v = guarded(r.floats((keys - 1) * g.v_stride + g.value_dim, -2.0f, 2.0f));
  const Masks masks(r, queries, keys);
  g.q = q.as<float>(), g.k = k.as<float>(), g.v = v.as<float>(), g.scale = 0.3f;
  choose_mask(r, g, masks, keys);
  checker.compare("attention", std::to_string(queries) + " x " + std::to_string(keys) + " x " + std::to_string(dim),
                  attention_table(), g,
                  {{Output::Kind::floats, static_cast<size_t>((queries - 1) * g.out_stride + g.value_dim) * 4,
                    [&](uint8_t* p) { g.out = reinterpret_cast<float*>(p); }},
                   {Output::Kind::scratch, static_cast<size_t>(attention_scratch_floats(keys, dim, g.value_dim)) * 4,
                    [&](uint8_t* p) { g.scratch = reinterpret_cast<float*>(p); }}});
}

void packing(Checker& checker, Random& r, int64_t keys, int64_t dim) {
  const int64_t stride = dim + r.any<int64_t>({0, 4, 5}), padded = (keys + 15) / 16 * 16;
  const std::string what = std::to_string(keys) + " x " + std::to_string(dim);
  const Guarded rows = guarded(r.integers<uint8_t>((keys - 1) * stride + dim, 0, 255));
  // Only the panels count: what lies behind them is never a weight.
  const auto panels = [](int64_t n, int64_t depth) {
    return static_cast<size_t>((n + 15) / 16 * 16 * ((depth + 3) / 4 * 4));
  };
  PackKeysArgs k{rows.data(), stride, keys, dim, 77, nullptr, nullptr};
  checker.compare(
      "pack_keys", what, pack_keys_table(), k,
      {{Output::Kind::bytes, panels(keys, dim), [&](uint8_t* p) { k.packed = reinterpret_cast<int8_t*>(p); }},
       {Output::Kind::bytes, static_cast<size_t>(keys) * 4,
        [&](uint8_t* p) { k.offset = reinterpret_cast<int32_t*>(p); }}});
  PackValuesArgs v{rows.data(), stride, keys, padded, dim, nullptr};
  checker.compare(
      "pack_values", what, pack_values_table(), v,
      {{Output::Kind::bytes, panels(dim, padded), [&](uint8_t* p) { v.packed = reinterpret_cast<int8_t*>(p); }}});
}

void weighing(Checker& checker, Random& r, int64_t queries, int64_t keys) {
  const std::string what = std::to_string(queries) + " x " + std::to_string(keys);
  SoftmaxU8Args g{};
  g.score_stride = keys + r.from(0, 3), g.end = queries, g.keys = keys, g.padded_keys = (keys + 15) / 16 * 16;
  const auto scores = r.floats(queries * g.score_stride, -20.0f, 20.0f);
  std::vector<uint8_t> before(scores.size() * 4);
  __builtin_memcpy(before.data(), scores.data(), before.size());
  const Masks masks(r, queries, keys);
  choose_mask(r, g, masks, keys);
  checker.compare(
      "softmax_u8", what, softmax_u8_table(), g,
      {{Output::Kind::scratch, before.size(), [&](uint8_t* p) { g.scores = reinterpret_cast<float*>(p); }, before},
       {Output::Kind::bytes, static_cast<size_t>(queries * g.padded_keys), [&](uint8_t* p) { g.out = p; }},
       {Output::Kind::floats, static_cast<size_t>(queries) * 4,
        [&](uint8_t* p) { g.factor = reinterpret_cast<float*>(p); }}});
  auto factor = r.floats(queries, 0.1f, 1.0f);
  factor[0] = 0;
  const Guarded x = guarded(r.floats(queries * keys, -300.0f, 300.0f)), factors = guarded(factor);
  ScaleRowsArgs s{x.as<float>(), queries, keys, factors.as<float>(), 0.9f, 90.0f, 33.0f, nullptr, keys, r.one_in(2)};
  checker.compare("scale_rows", what, scale_rows_table(), s,
                  {{s.out_f32 ? Output::Kind::floats : Output::Kind::bytes,
                    static_cast<size_t>(queries * keys) * (s.out_f32 ? 4 : 1), [&](uint8_t* p) { s.out = p; }}});
}

}  // namespace

void check_attention(Checker& checker, Random& r) {
  for (int i = 0; i < 40; ++i) {
    const int64_t keys = r.any<int64_t>({1, 3, 15, 16, 17, 40, 64, 65, 100});
    const int64_t queries = r.from(1, 30);
    one_attention(checker, r, queries, keys, r.any<int64_t>({1, 4, 16, 17, 32, 64}));
    packing(checker, r, keys, r.any<int64_t>({1, 4, 7, 16, 32, 65, 80}));
    weighing(checker, r, r.from(1, 12), keys);
  }
}

}  // namespace taille::check
