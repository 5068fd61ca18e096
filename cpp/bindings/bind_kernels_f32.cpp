// Float kernels, one variant at a time. Rows may be strided; the last dimension is contiguous.
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/kernel_arrays.h"
#include "kernels/depthwise.h"
#include "kernels/elementwise.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"

namespace taille {
namespace {

StridedFloats depthwise_f32_array(const StridedFloats& a, const Offsets& offsets, const StridedFloats& w,
                                  const std::string& variant, std::optional<StridedFloats> pad_row,
                                  std::optional<StridedFloats> bias, float lo, float hi, Part rows,
                                  std::optional<StridedFloats> out) {
  check(w.ndim() == 2 && contiguous(w), "depthwise_f32: w must be contiguous (taps, channels)");
  const Taps taps = taps_of(offsets, a, pad_row, w.shape(1), "depthwise_f32");
  check(taps.taps == w.shape(0), "depthwise_f32: offsets have ", taps.taps, " taps, w has ", w.shape(0));
  DepthwiseF32Args g{};
  g.a = a.data();
  g.offsets = offsets.data();
  g.taps = taps.taps;
  g.pad_row = pad_row ? pad_row->data() : nullptr;
  g.channels = w.shape(1);
  g.w = w.data();
  g.bias = vector_of(bias, g.channels, "depthwise_f32: bias");
  g.lo = lo;
  g.hi = hi;
  std::tie(g.m_begin, g.m_end) = part_of(rows, taps.rows, "depthwise_f32: rows");
  StridedFloats result = output(out, {taps.rows, g.channels}, "depthwise_f32");
  g.out = mutable_rows_of(result, &g.ldc);
  run_variant("depthwise_f32", depthwise_f32_table(), variant, g);
  return result;
}

StridedFloats pool_array(KernelTable<PoolF32Args> table, const char* op, const StridedFloats& a, const Offsets& starts,
                         const Offsets& offsets, int64_t channels, const std::string& variant,
                         std::optional<StridedFloats> divisor, Part rows, std::optional<StridedFloats> out) {
  check(a.ndim() == 1 && contiguous(a), op, ": a must be a contiguous 1-D array");
  check(starts.ndim() == 1 && starts.shape(0) >= 1, op, ": starts must be 1-D");
  const int64_t m = starts.shape(0) - 1;
  check(starts.at(0) >= 0 && starts.at(m) <= offsets.size(), op, ": starts run outside offsets");
  for (int64_t i = 0; i < m; ++i) check(starts.at(i) < starts.at(i + 1), op, ": starts must rise");
  for (int64_t t = 0; t < offsets.size(); ++t)
    check(offsets.at(t) >= 0 && offsets.at(t) + channels <= a.size(), op, ": an offset runs outside a");
  PoolF32Args g{};
  g.a = a.data();
  g.starts = starts.data();
  g.offsets = offsets.data();
  g.channels = channels;
  g.divisor = vector_of(divisor, m, "pool: divisor");
  std::tie(g.m_begin, g.m_end) = part_of(rows, m, "pool: rows");
  StridedFloats result = output(out, {m, channels}, op);
  g.out = mutable_rows_of(result, &g.ldc);
  run_variant(op, table, variant, g);
  return result;
}

StridedFloats softmax_array(const StridedFloats& x, const std::string& variant, std::optional<StridedFloats> out) {
  check(x.ndim() == 2 && contiguous(x), "softmax: x must be contiguous and 2-D");
  StridedFloats result = contiguous_output(out, {x.shape(0), x.shape(1)}, "softmax");
  run_variant("softmax", softmax_table(), variant,
              SoftmaxArgs{x.data(), x.shape(0), x.shape(1), result.mutable_data()});
  return result;
}

// float32, or uint8 where a scale is given
py::array norm_array(KernelTable<NormArgs> table, const char* op, const StridedFloats& x, const std::string& variant,
                     std::optional<StridedFloats> gamma, std::optional<StridedFloats> beta, float epsilon,
                     std::optional<float> inverse_scale, float zero_point, std::optional<py::array> out) {
  check(x.ndim() == 2 && contiguous(x), op, ": x must be contiguous and 2-D");
  NormArgs g{};
  g.x = x.data();
  g.rows = x.shape(0);
  g.n = x.shape(1);
  g.gamma = vector_of(gamma, g.n, concat(op, ": gamma").c_str());
  g.beta = vector_of(beta, g.n, concat(op, ": beta").c_str());
  g.epsilon = epsilon;
  const auto dtype = inverse_scale ? py::dtype::of<uint8_t>() : py::dtype::of<float>();
  py::array result = out ? *out : py::array(dtype, {g.rows, g.n});
  check(result.dtype().equal(dtype) && result.ndim() == 2 && result.shape(0) == g.rows && result.shape(1) == g.n &&
            (result.flags() & py::array::c_style) != 0,
        op, ": out must be contiguous, of x's shape, float32 or (with inverse_scale) uint8");
  if (inverse_scale) {
    g.out_u8 = static_cast<uint8_t*>(result.mutable_data());
    g.inverse_scale = *inverse_scale;
    g.zero_point = zero_point;
  } else {
    g.out = static_cast<float*>(result.mutable_data());
  }
  run_variant(op, table, variant, g);
  return result;
}

StridedFloats mean_rows_array(const StridedFloats& x, float divisor, const std::string& variant,
                              std::optional<StridedFloats> out) {
  MeanRowsArgs g{};
  g.x = rows_of(x, -1, "mean_rows: x", &g.stride);
  g.rows = x.shape(0);
  g.n = x.shape(1);
  g.divisor = divisor;
  StridedFloats result = contiguous_output(out, {g.n}, "mean_rows");
  g.out = result.mutable_data();
  run_variant("mean_rows", mean_rows_table(), variant, g);
  return result;
}

StridedFloats mean_last_array(const StridedFloats& x, float divisor, const std::string& variant,
                              std::optional<StridedFloats> out) {
  check(x.ndim() == 2 && contiguous(x), "mean_last: x must be contiguous and 2-D");
  StridedFloats result = contiguous_output(out, {x.shape(0)}, "mean_last");
  run_variant("mean_last", mean_last_table(), variant,
              MeanLastArgs{x.data(), x.shape(0), x.shape(1), divisor, result.mutable_data()});
  return result;
}

}  // namespace

void bind_kernels_f32(py::module_& m) {
  using py::arg;
  bind_gemm_f32(m);
  m.def("depthwise_f32", depthwise_f32_array, arg("a").noconvert(), arg("offsets").noconvert(), arg("w").noconvert(),
        py::kw_only(), arg("variant"), arg("pad_row").noconvert() = py::none(), arg("bias").noconvert() = py::none(),
        arg("lo") = -kInf, arg("hi") = kInf, arg("rows") = py::none(), arg("out").noconvert() = py::none());
  const auto pool = [&m](const char* name, KernelTable<PoolF32Args> table) {
    m.def(
        name,
        [name, table](const StridedFloats& a, const Offsets& starts, const Offsets& offsets, int64_t channels,
                      const std::string& variant, std::optional<StridedFloats> divisor, Part rows,
                      std::optional<StridedFloats> out) {
          return pool_array(table, name, a, starts, offsets, channels, variant, divisor, rows, out);
        },
        arg("a").noconvert(), arg("starts").noconvert(), arg("offsets").noconvert(), arg("channels"), py::kw_only(),
        arg("variant"), arg("divisor").noconvert() = py::none(), arg("rows") = py::none(),
        arg("out").noconvert() = py::none());
  };
  pool("pool_max_f32", pool_max_f32_table());
  pool("pool_avg_f32", pool_avg_f32_table());
  m.def("softmax", softmax_array, arg("x").noconvert(), py::kw_only(), arg("variant"),
        arg("out").noconvert() = py::none());
  m.def(
      "layer_norm",
      [](const StridedFloats& x, const std::string& variant, std::optional<StridedFloats> gamma,
         std::optional<StridedFloats> beta, float epsilon, std::optional<float> inverse_scale, float zero_point,
         std::optional<py::array> out) {
        return norm_array(layer_norm_table(), "layer_norm", x, variant, gamma, beta, epsilon, inverse_scale, zero_point,
                          out);
      },
      arg("x").noconvert(), py::kw_only(), arg("variant"), arg("gamma").noconvert() = py::none(),
      arg("beta").noconvert() = py::none(), arg("epsilon") = 1e-5f, arg("inverse_scale") = py::none(),
      arg("zero_point") = 0.0f, arg("out").noconvert() = py::none());
  m.def(
      "rms_norm",
      [](const StridedFloats& x, const std::string& variant, std::optional<StridedFloats> gamma, float epsilon,
         std::optional<float> inverse_scale, float zero_point, std::optional<py::array> out) {
        return norm_array(rms_norm_table(), "rms_norm", x, variant, gamma, {}, epsilon, inverse_scale, zero_point, out);
      },
      arg("x").noconvert(), py::kw_only(), arg("variant"), arg("gamma").noconvert() = py::none(),
      arg("epsilon") = 1e-5f, arg("inverse_scale") = py::none(), arg("zero_point") = 0.0f,
      arg("out").noconvert() = py::none());
  m.def("mean_rows", mean_rows_array, arg("x").noconvert(), arg("divisor"), py::kw_only(), arg("variant"),
        arg("out").noconvert() = py::none());
  m.def("mean_last", mean_last_array, arg("x").noconvert(), arg("divisor"), py::kw_only(), arg("variant"),
        arg("out").noconvert() = py::none());
  bind_elementwise(m);
}

}  // namespace taille
