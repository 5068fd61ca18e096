// The steps of int8 attention, one variant at a time.
#include <tuple>

#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/attention_s8.h"
#include "kernels/gemm_s8.h"

namespace taille {
namespace {

using StridedBytes = py::array_t<uint8_t>;
template <class T>
using Optional = std::optional<py::array_t<T>>;

int64_t row_stride(const char* what, const StridedBytes& x) {
  check(x.ndim() == 2 && (x.shape(1) <= 1 || x.strides(1) == 1), what, " must be 2-D with contiguous rows");
  return x.strides(0);
}

py::tuple pack_keys(const StridedBytes& k, int32_t q_zero_point, const std::string& variant) {
  const int64_t stride = row_stride("pack_keys: k", k);
  Array<int8_t> packed(gemm_s8_packed_bytes(k.shape(0), k.shape(1)));
  Array<int32_t> offset(k.shape(0));
  run_variant("pack_keys", pack_keys_table(), variant,
              PackKeysArgs{k.data(), stride, k.shape(0), k.shape(1), q_zero_point, packed.mutable_data(),
                           offset.mutable_data()});
  return py::make_tuple(packed, offset);
}

Array<int8_t> pack_values(const StridedBytes& v, int64_t padded_keys, const std::string& variant) {
  const int64_t stride = row_stride("pack_values: v", v);
  check(padded_keys >= v.shape(0) && padded_keys % 4 == 0, "pack_values: padded_keys must be a multiple of 4 from ",
        v.shape(0), " on");
  Array<int8_t> packed(gemm_s8_packed_bytes(v.shape(1), padded_keys));
  run_variant("pack_values", pack_values_table(), variant,
              PackValuesArgs{v.data(), stride, v.shape(0), padded_keys, v.shape(1), packed.mutable_data()});
  return packed;
}

// A mask over all query rows; strides of 0 (numpy.broadcast_to) repeat it.
template <class T>
const T* mask_of(const Optional<T>& mask, int64_t queries, SoftmaxU8Args* g) {
  if (!mask) return nullptr;
  const int64_t item = sizeof(T);
  check(mask->ndim() == 2 && mask->shape(0) >= queries && mask->shape(1) == g->keys, "softmax_u8: a mask must be (",
        queries, ", ", g->keys, ")");
  g->mask_stride = mask->strides(0) / item;
  g->mask_step = mask->strides(1) / item;
  return mask->data();
}

py::tuple softmax_u8(Floats scores, const std::string& variant, int64_t first, const Optional<float>& mask,
                     const Optional<uint8_t>& mask_bool, bool causal) {
  check(scores.ndim() == 2 && first >= 0, "softmax_u8: scores must be 2-D and first not negative");
  const int64_t rows = scores.shape(0);
  SoftmaxU8Args g{};
  g.scores = scores.mutable_data();
  g.score_stride = g.keys = scores.shape(1);
  g.begin = first;
  g.end = first + rows;
  g.mask = mask_of(mask, g.end, &g);
  g.mask_bool = mask_of(mask_bool, g.end, &g);
  g.causal = causal;
  g.padded_keys = (g.keys + 15) / 16 * 16;
  Array<uint8_t> weights({rows, g.padded_keys});
  Floats factor(rows);
  g.out = weights.mutable_data();
  g.factor = factor.mutable_data();
  run_variant("softmax_u8", softmax_u8_table(), variant, g);
  return py::make_tuple(weights, factor);
}

py::array scale_rows(const Floats& x, const Floats& factor, float scale, float shift, float masked, bool out_f32,
                     const std::string& variant) {
  check(x.ndim() == 2 && factor.size() == x.shape(0), "scale_rows: wanted x 2-D and a factor for each row");
  py::array out(out_f32 ? py::dtype::of<float>() : py::dtype::of<uint8_t>(), shape_of(x));
  run_variant("scale_rows", scale_rows_table(), variant,
              ScaleRowsArgs{x.data(), x.shape(0), x.shape(1), factor.data(), scale, shift, masked, out.mutable_data(),
                            x.shape(1), out_f32});
  return out;
}

}  // namespace

void bind_attention_s8(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("pack_keys", &pack_keys, no_copy("k"), "q_zero_point"_a, py::kw_only(), "variant"_a,
        "(packed, offset): keys as gemm_s8's columns, and what the queries' zero point adds to each.");
  m.def("pack_values", &pack_values, no_copy("v"), "padded_keys"_a, py::kw_only(), "variant"_a,
        "Values as gemm_s8's weights.");
  m.def("softmax_u8", &softmax_u8, no_copy("scores"), py::kw_only(), "variant"_a, "first"_a = 0,
        no_copy("mask") = py::none(), no_copy("mask_bool") = py::none(), "causal"_a = false,
        "(weights, factor) of scores in units of log2, which are overwritten.");
  m.def("scale_rows", &scale_rows, no_copy("x"), no_copy("factor"), "scale"_a, "shift"_a, "masked"_a, py::kw_only(),
        "out_f32"_a = false, "variant"_a, "x * factor * scale + shift, as uint8 or float32.");
}

}  // namespace taille
