// conv_s8.h: one padded image.
#include <cstring>
#include <tuple>

#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/conv_s8.h"

namespace taille {
namespace {

py::array conv_s8(const Bytes& image, const Array<int8_t>& packed, const Array<int32_t>& offset,
                  const Array<float>& scale, const Array<float>& bias, const std::string& variant,
                  const std::pair<int64_t, int64_t>& size, int64_t taps, int64_t k, int64_t pixel_stride,
                  int64_t row_stride, int64_t tap_stride, const std::optional<py::array>& residual,
                  float residual_scale, bool out_f32, const std::optional<std::pair<int64_t, int64_t>>& rows) {
  ConvS8Args g{};
  GemmS8Args& p = g.product;
  p.n = p.n_end = offset.size();
  p.m_end = size.first;
  p.taps = taps;
  p.k = k;
  p.lda = pixel_stride;
  g.width = size.second;
  g.row_stride = row_stride;
  g.tap_stride = tap_stride;
  check(taps >= 1 && taps <= kMaxConvTaps && k == conv_s8_tap_bytes(k), "conv_s8: taps or k is out of range");
  check(image.ndim() == 1 && image.size() >= conv_s8_image_bytes(g), "conv_s8: the image has ", image.size(),
        " bytes; wanted ", conv_s8_image_bytes(g));
  check(packed.size() == gemm_s8_packed_bytes(p.n, taps * k), "conv_s8: packed has ", packed.size(), " bytes, wanted ",
        gemm_s8_packed_bytes(p.n, taps * k));
  check(scale.size() == p.n && bias.size() == p.n, "conv_s8: offset, scale and bias must be of one length");
  if (rows) std::tie(p.m_begin, p.m_end) = *rows;
  check(0 <= p.m_begin && p.m_begin <= p.m_end && p.m_end <= size.first, "conv_s8: rows must lie in the output");
  py::array out(out_f32 ? py::dtype::of<float>() : py::dtype::of<uint8_t>(),
                std::vector<py::ssize_t>{size.first * size.second, p.n});
  std::memset(out.mutable_data(), 0, static_cast<size_t>(out.nbytes()));
  if (residual) {
    check(residual->dtype().is(out.dtype()) && shape_of(*residual) == shape_of(out),
          "conv_s8: the residual must be like the output");
    p.residual = residual->data();
    p.residual_stride = p.n;
  }
  Bytes scratch(conv_s8_scratch_bytes(taps * k));
  p.a = image.data();
  p.packed = packed.data();
  p.offset = offset.data();
  p.scale = scale.data();
  p.bias = bias.data();
  p.residual_scale = residual_scale;
  p.lo = out_f32 ? -1e30f : 0.0f;
  p.hi = out_f32 ? 1e30f : 255.0f;
  p.bounded = gemm_s8_bounded(p);
  p.out = out.mutable_data();
  p.ldc = p.n;
  p.out_f32 = out_f32;
  p.scratch = scratch.mutable_data();
  run_variant("conv_s8", conv_s8_table(), variant, g);
  return out;
}

}  // namespace

void bind_conv_s8(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("conv_s8", &conv_s8, no_copy("image"), no_copy("packed"), no_copy("offset"), no_copy("scale"), no_copy("bias"),
        py::kw_only(), "variant"_a, "size"_a, "taps"_a, "k"_a, "pixel_stride"_a, "row_stride"_a, "tap_stride"_a,
        "residual"_a = py::none(), "residual_scale"_a = 1.0f, "out_f32"_a = false, "rows"_a = py::none(),
        "(height * width, n) of `size` output pixels, from a padded image of bytes; other rows of the output are 0.");
  m.def("conv_s8_tap_bytes", &conv_s8_tap_bytes, "filter_row_bytes"_a, "Bytes of a filter row as conv_s8 wants it.");
  m.def(
      "conv_s8_image_bytes",
      [](int64_t height, int64_t taps, int64_t k, int64_t pixel_stride, int64_t row_stride, int64_t tap_stride) {
        ConvS8Args g{};
        g.product.m_end = height;
        g.product.taps = taps;
        g.product.k = k;
        g.product.lda = pixel_stride;
        g.row_stride = row_stride;
        g.tap_stride = tap_stride;
        return conv_s8_image_bytes(g);
      },
      "height"_a, "taps"_a, "k"_a, "pixel_stride"_a, "row_stride"_a, "tap_stride"_a, "Bytes that conv_s8 may read.");
}

}  // namespace taille
