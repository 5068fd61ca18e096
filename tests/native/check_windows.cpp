// depthwise_s8, depthwise_f32 and pooling.
#include <cmath>

#include "check.h"
#include "kernels/depthwise.h"
#include "kernels/pool.h"

namespace taille::check {
namespace {

void one_depthwise_s8(Checker& checker, Random& r, int64_t channels) {
  DepthwiseWindow w{r.from(1, 5), r.from(1, 5), r.from(1, 2), r.from(1, 2), 0, 0, r.from(1, 2), r.from(1, 2)};
  if (r.one_in(2)) w.kernel_h = w.kernel_w = 3, w.dilation_h = w.dilation_w = 1;
  const int64_t span_h = (w.kernel_h - 1) * w.dilation_h, span_w = (w.kernel_w - 1) * w.dilation_w;
  w.pad_top = r.from(0, span_h), w.pad_left = r.from(0, span_w);
  DepthwiseS8Args g{};
  g.window = w;
  g.channels = channels;
  g.height = r.from(span_h + 1, span_h + 6), g.width = r.one_in(5) ? r.from(50, 70) : r.from(span_w + 1, span_w + 12);
  const int64_t out_height = (g.height + 2 * w.pad_top - span_h - 1) / w.stride_h + 1;
  g.out_width = (g.width + 2 * w.pad_left - span_w - 1) / w.stride_w + 1;
  g.row_end = out_height;
  if (out_height > 2 && r.one_in(3)) g.row_begin = 1, g.row_end = out_height - 1;
  g.pad = static_cast<uint8_t>(r.from(0, 255));
  const bool extreme = r.one_in(5);
  auto a = r.integers<uint8_t>(g.height * g.width * channels, 0, 255);
  auto weights = r.integers<int8_t>(w.kernel_h * w.kernel_w * channels, -128, 127);
  if (extreme) a.assign(a.size(), 255), weights.assign(weights.size(), r.any<int8_t>({-128, 127}));
  const auto offset = r.integers<int32_t>(channels, -20000, 20000);
  const auto scale = r.floats(channels, 0.0005f, 0.004f), bias = r.floats(channels, 60.0f, 200.0f);
  g.out_f32 = r.one_in(3);
  g.lo = r.any({0.0f, 5.0f}), g.hi = r.any({255.0f, 190.0f});
  g.ldc = channels + r.from(0, 3);
  const Guarded image = guarded(a), taps = guarded(weights), offsets = guarded(offset), scales = guarded(scale);
  const Guarded biases = guarded(bias);
  g.a = image.data(), g.w = taps.as<int8_t>(), g.offset = offsets.as<int32_t>(), g.scale = scales.as<float>();
  g.bias = biases.as<float>();
  Guarded packed(static_cast<size_t>(depthwise_s8_packed_bytes(w, channels)), Guarded::Side::end);
  g.bounded = depthwise_s8_pack(g, packed.data());
  g.packed = packed.data();
  const size_t elements = static_cast<size_t>((out_height * g.out_width - 1) * g.ldc + channels);
  checker.compare(
      "depthwise_s8",
      std::to_string(w.kernel_h) + " x " + std::to_string(w.kernel_w) + ", channels " + std::to_string(channels),
      depthwise_s8_table(), g,
      {{g.out_f32 ? Output::Kind::floats : Output::Kind::bytes, elements * (g.out_f32 ? 4 : 1),
        [&](uint8_t* p) { g.out = p; }},
       {Output::Kind::scratch, static_cast<size_t>(depthwise_s8_scratch_bytes(w)),
        [&](uint8_t* p) { g.scratch = p; }}});
}

void one_depthwise_f32(Checker& checker, Random& r, int64_t channels) {
  DepthwiseF32Args g{};
  g.channels = channels, g.taps = r.from(1, 9), g.m_end = r.from(1, 11), g.ldc = channels + r.from(0, 3);
  if (g.m_end > 2 && r.one_in(3)) g.m_begin = 1;
  const int64_t size = channels * 9 + 7;
  auto at = r.integers<int32_t>(g.m_end * g.taps, 0, size - channels);
  for (int32_t& offset : at)
    if (r.one_in(4)) offset = -1;
  at[0] = static_cast<int32_t>(size - channels);
  const Guarded a = guarded(r.floats(size, -2.0f, 2.0f)), offsets = guarded(at);
  const Guarded pad = guarded(std::vector<float>(static_cast<size_t>(channels)));
  const Guarded w = guarded(r.floats(g.taps * channels, -1.0f, 1.0f)), bias = guarded(r.floats(channels, -1.0f, 1.0f));
  g.a = a.as<float>(), g.offsets = offsets.as<int32_t>(), g.pad_row = pad.as<float>(), g.w = w.as<float>();
  g.bias = r.one_in(2) ? bias.as<float>() : nullptr;
  g.lo = r.any({-kInfinity, 0.0f}), g.hi = r.any({kInfinity, 1.5f});
  checker.compare("depthwise_f32", "channels " + std::to_string(channels), depthwise_f32_table(), g,
                  {{Output::Kind::floats, static_cast<size_t>((g.m_end - 1) * g.ldc + channels) * 4,
                    [&](uint8_t* p) { g.out = reinterpret_cast<float*>(p); }}});
}

// Windows of 1 to 6 pixels anywhere in an image of 12.
template <class T>
void one_pool(Checker& checker, Random& r, int64_t channels, const std::vector<T>& image, Output::Kind kind,
              std::initializer_list<std::pair<const char*, KernelTable<PoolArgs<T>>>> ops) {
  PoolArgs<T> g{};
  g.channels = channels, g.m_end = r.from(1, 9), g.ldc = channels + r.from(0, 3);
  if (g.m_end > 2 && r.one_in(3)) g.m_begin = 1;
  std::vector<int32_t> start{0}, offset;
  std::vector<float> count, multiplier, bias;
  for (int64_t i = 0; i < g.m_end; ++i) {
    const int64_t pixels = r.from(1, 6);
    for (int64_t t = 0; t < pixels; ++t) offset.push_back(static_cast<int32_t>(channels * r.from(0, 11)));
    start.push_back(static_cast<int32_t>(offset.size()));
    count.push_back(static_cast<float>(pixels));
    multiplier.push_back(r.uniform(0.1f, 1.2f) / static_cast<float>(pixels));
    bias.push_back(r.uniform(-30.0f, 30.0f));
  }
  const Guarded a = guarded(image), starts = guarded(start), offsets = guarded(offset), divisors = guarded(count);
  const Guarded multipliers = guarded(multiplier), biases = guarded(bias);
  g.a = a.template as<T>(), g.starts = starts.as<int32_t>(), g.offsets = offsets.as<int32_t>();
  g.divisor = divisors.as<float>(), g.multiplier = multipliers.as<float>(), g.bias = biases.as<float>();
  for (const auto& [op, table] : ops)
    checker.compare(op, "channels " + std::to_string(channels), table, g,
                    {{kind, static_cast<size_t>((g.m_end - 1) * g.ldc + channels) * sizeof(T),
                      [&](uint8_t* p) { g.out = reinterpret_cast<T*>(p); }}});
}

}  // namespace

void check_windows(Checker& checker, Random& r) {
  for (int i = 0; i < 120; ++i)
    one_depthwise_s8(checker, r, r.any<int64_t>({1, 5, 15, 16, 17, 24, 32, 33, 48, 64, 65, 96, 130}));
  for (int i = 0; i < 60; ++i) {
    const int64_t channels = r.any<int64_t>({1, 3, 4, 7, 15, 16, 17, 31, 32, 33, 64, 65, 100});
    one_depthwise_f32(checker, r, channels);
    auto floats = r.floats(12 * channels, -2.0f, 2.0f);
    for (float& x : floats)
      if (r.one_in(20)) x = r.any({std::nanf(""), kInfinity, -kInfinity, -0.0f, 0.0f});
    one_pool<float>(checker, r, channels, floats, Output::Kind::floats,
                    {{"pool_max_f32", pool_max_f32_table()}, {"pool_avg_f32", pool_avg_f32_table()}});
    one_pool<uint8_t>(checker, r, channels, r.integers<uint8_t>(12 * channels, 0, 255), Output::Kind::bytes,
                      {{"pool_max_u8", pool_max_u8_table()}, {"pool_avg_u8", pool_avg_u8_table()}});
  }
}

}  // namespace taille::check
