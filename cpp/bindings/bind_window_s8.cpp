// depthwise_s8, pool_max_u8 and pool_avg_u8.
#include "base/buffer.h"
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/depthwise.h"
#include "kernels/pool.h"

namespace taille {
namespace {

using Pair = std::pair<int64_t, int64_t>;

int64_t out_extent(int64_t in, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return (in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

py::array depthwise_s8(const Array<uint8_t>& a, const Array<int8_t>& w, const Array<int32_t>& offset,
                       const Array<float>& scale, const Array<float>& bias, const std::string& variant,
                       const Pair& stride, const Pair& padding, const Pair& dilation, uint8_t pad, float lo, float hi,
                       const Part& row_range, const py::array& out, const std::optional<Array<uint8_t>>& scratch,
                       int64_t repeats) {
  const char* op = "depthwise_s8";
  check(a.ndim() == 3 && w.ndim() == 3 && a.shape(2) == w.shape(2), op,
        ": a must be (height, width, channels) and w (kernel_h, kernel_w, channels)");
  DepthwiseS8Args g{};
  g.height = a.shape(0);
  g.width = a.shape(1);
  g.channels = a.shape(2);
  g.window = {w.shape(0),    w.shape(1),     stride.first,   stride.second,
              padding.first, padding.second, dilation.first, dilation.second};
  check(g.window.kernel_h > 0 && g.window.kernel_w > 0 && stride.first > 0 && stride.second > 0 && padding.first >= 0 &&
            padding.second >= 0 && dilation.first > 0 && dilation.second > 0,
        op, ": kernel, stride and dilation must be positive, padding not negative");
  check(offset.size() == g.channels && scale.size() == g.channels && bias.size() == g.channels, op,
        ": offset, scale and bias must have ", g.channels, " elements");
  const int64_t out_height = out_extent(g.height, w.shape(0), stride.first, padding.first, dilation.first);
  g.out_width = out_extent(g.width, w.shape(1), stride.second, padding.second, dilation.second);
  g.out_f32 = py::isinstance<Array<float>>(out);
  check(g.out_f32 || py::isinstance<Array<uint8_t>>(out), op, ": out must be C-contiguous uint8 or float32");
  check(out.ndim() == 3 && out.shape(0) == out_height && out.shape(1) == g.out_width && out.shape(2) >= g.channels, op,
        ": out must be (", out_height, ", ", g.out_width, ", ", g.channels, " or more)");
  check(lo <= hi && (g.out_f32 || (lo >= 0 && hi <= 255)), op,
        ": lo and hi must be in order, and in 0 .. 255 for uint8");
  std::tie(g.row_begin, g.row_end) = part_of(row_range, out_height, std::string(op) + ": row_range");
  g.a = a.data();
  g.pad = pad;
  g.w = w.data();
  g.offset = offset.data();
  g.scale = scale.data();
  g.bias = bias.data();
  g.lo = lo;
  g.hi = hi;
  Buffer packed(static_cast<size_t>(depthwise_s8_packed_bytes(g.window, g.channels)));
  g.bounded = depthwise_s8_pack(g, packed.data<uint8_t>());
  g.packed = packed.data<uint8_t>();
  const int64_t scratch_bytes = depthwise_s8_scratch_bytes(g.window);
  check(!scratch || scratch->size() == scratch_bytes, op, ": scratch must have ", scratch_bytes, " bytes");
  Buffer own(static_cast<size_t>(scratch_bytes));
  g.scratch = scratch ? const_cast<uint8_t*>(scratch->data()) : own.data<uint8_t>();
  py::array rows = out;
  g.out = rows.mutable_data();
  g.ldc = out.shape(2);
  run_variant(op, depthwise_s8_table(), variant, g, repeats);
  return rows;
}

PoolU8Args pool_args(const char* op, const Array<uint8_t>& a, const Array<int32_t>& starts,
                     const Array<int32_t>& offsets, const Part& m_range, int64_t channels, Array<uint8_t>& out) {
  const int64_t m = starts.size() - 1;
  check(m >= 0 && starts.data()[0] >= 0 && starts.data()[m] <= offsets.size(), op, ": starts must index offsets");
  for (int64_t i = 0; i < m; ++i) check(starts.data()[i] < starts.data()[i + 1], op, ": pixel ", i, " covers no input");
  check(out.ndim() == 2 && out.shape(0) >= m && out.shape(1) >= channels, op, ": out must be at least (", m, ", ",
        channels, ")");
  check_offsets(op, offsets, a.size(), channels, 0);
  const auto [begin, end] = part_of(m_range, m, std::string(op) + ": m_range");
  return {a.data(),           starts.data(), offsets.data(), channels, begin,  end,
          out.mutable_data(), out.shape(1),  nullptr,        nullptr,  nullptr};
}

Array<uint8_t> pool_max_u8(const Array<uint8_t>& a, const Array<int32_t>& starts, const Array<int32_t>& offsets,
                           int64_t channels, const std::string& variant, Array<uint8_t> out, const Part& m_range) {
  const PoolU8Args g = pool_args("pool_max_u8", a, starts, offsets, m_range, channels, out);
  run_variant("pool_max_u8", pool_max_u8_table(), variant, g);
  return out;
}

Array<uint8_t> pool_avg_u8(const Array<uint8_t>& a, const Array<int32_t>& starts, const Array<int32_t>& offsets,
                           int64_t channels, const Array<float>& multiplier, const Array<float>& bias,
                           const std::string& variant, Array<uint8_t> out, const Part& m_range) {
  PoolU8Args g = pool_args("pool_avg_u8", a, starts, offsets, m_range, channels, out);
  check(multiplier.size() == starts.size() - 1 && bias.size() == multiplier.size(),
        "pool_avg_u8: multiplier and bias must have ", starts.size() - 1, " elements");
  g.multiplier = multiplier.data();
  g.bias = bias.data();
  run_variant("pool_avg_u8", pool_avg_u8_table(), variant, g);
  return out;
}

}  // namespace

void bind_window_s8(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("depthwise_s8", &depthwise_s8, no_copy("a"), no_copy("w"), no_copy("offset"), no_copy("scale"), no_copy("bias"),
        py::kw_only(), "variant"_a, "stride"_a = Pair(1, 1), "padding"_a = Pair(0, 0), "dilation"_a = Pair(1, 1),
        "pad"_a = 0, "lo"_a = 0.0f, "hi"_a = 255.0f, "rows"_a = py::none(), "out"_a, no_copy("scratch") = py::none(),
        "repeats"_a = 1,
        "One row of the depthwise_s8 table; see depthwise.h. The dtype of out (uint8, float32) chooses the epilogue.");
  m.def(
      "depthwise_s8_scratch_bytes",
      [](const Pair& kernel, const Pair& stride, const Pair& dilation) {
        return depthwise_s8_scratch_bytes(
            {kernel.first, kernel.second, stride.first, stride.second, 0, 0, dilation.first, dilation.second});
      },
      "kernel"_a, "stride"_a, "dilation"_a, "Bytes of scratch that depthwise_s8 wants.");
  m.def("pool_max_u8", &pool_max_u8, no_copy("a"), no_copy("starts"), no_copy("offsets"), "channels"_a, py::kw_only(),
        "variant"_a, no_copy("out"), "m_range"_a = py::none(), "One row of the pool_max_u8 table; see pool.h.");
  m.def("pool_avg_u8", &pool_avg_u8, no_copy("a"), no_copy("starts"), no_copy("offsets"), "channels"_a,
        no_copy("multiplier"), no_copy("bias"), py::kw_only(), "variant"_a, no_copy("out"), "m_range"_a = py::none(),
        "One row of the pool_avg_u8 table; see pool.h.");
}

}  // namespace taille
