// gemm_f32: linear layers and convolutions of float models.
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/arrays.h"
#include "bindings/kernel_arrays.h"
#include "kernels/gemm_f32.h"
#include "kernels/gemm_sparse_f32.h"

namespace taille {
namespace {

// float32, float16, or bfloat16 as its bits in uint16.
DType weight_dtype(const py::array& w, const char* what) {
  const DType type = w.dtype().equal(py::dtype::of<uint16_t>()) ? DType::bf16 : dtype_of(w);
  if (type != DType::f32 && !is_half(type))
    throw TypeError(concat(what, " is ", name_of(type), "; wanted float32, float16, or uint16 (bfloat16)"));
  return type;
}

py::array gemm_f32_pack_array(const py::array& w, std::optional<py::array> out) {
  check(w.ndim() == 2, "gemm_f32_pack: w must be 2-D (n, k), got ", w.ndim(), "-D");
  const DType type = weight_dtype(w, "gemm_f32_pack: w");
  const int64_t item = w.itemsize();
  check(w.strides(0) % item == 0 && w.strides(1) % item == 0, "gemm_f32_pack: strides must be whole elements");
  const int64_t elements = gemm_f32_packed_elements(w.shape(0), w.shape(1));
  py::array packed = out ? *out : py::array(w.dtype(), elements);
  check(
      packed.ndim() == 1 && packed.shape(0) == elements && packed.dtype().equal(w.dtype()) && packed.strides(0) == item,
      "gemm_f32_pack: out must be contiguous with ", elements, " elements of the dtype of w");
  const void* from = w.data();
  void* to = packed.mutable_data();
  {
    py::gil_scoped_release nogil;
    gemm_f32_pack(type, from, w.strides(0) / item, w.strides(1) / item, w.shape(0), w.shape(1), to);
  }
  return packed;
}

// What gemm_f32 and gemm_sparse_f32 share.
struct GemmOptions {
  std::optional<Offsets> offsets;
  std::optional<StridedFloats> pad_row, bias, residual;
  float lo, hi;
  Part rows, columns;
  std::optional<StridedFloats> out;
};

// The arguments but for weights and scratch, and the output that they point to.
std::pair<GemmF32Args, StridedFloats> product_of(const StridedFloats& a, int64_t n, int64_t k, const GemmOptions& o) {
  GemmF32Args g{};
  int64_t m = 0;
  if (o.offsets) {
    const Taps taps = taps_of(*o.offsets, a, o.pad_row, k, "gemm_f32");
    g.a = a.data();
    g.offsets = o.offsets->data();
    g.taps = taps.taps;
    g.pad_row = o.pad_row ? o.pad_row->data() : nullptr;
    m = taps.rows;
  } else {
    g.a = rows_of(a, -1, "gemm_f32: a", &g.lda);
    g.taps = 1;
    m = a.shape(0);
    k = a.shape(1);
  }
  check(n > 0, "gemm_f32: n must be positive, got ", n);
  std::tie(g.m_begin, g.m_end) = part_of(o.rows, m, "gemm_f32: rows");
  std::tie(g.n_begin, g.n_end) = part_of(o.columns, n, "gemm_f32: columns");
  g.k = k;
  g.n = n;
  g.bias = vector_of(o.bias, n, "gemm_f32: bias");
  if (o.residual) {
    g.residual = rows_of(*o.residual, n, "gemm_f32: residual", &g.residual_stride);
    check(o.residual->shape(0) == m, "gemm_f32: residual must have ", m, " rows");
  }
  g.lo = o.lo;
  g.hi = o.hi;
  StridedFloats result = output(o.out, {m, n}, "gemm_f32");
  g.out = mutable_rows_of(result, &g.ldc);
  return {g, result};
}

StridedFloats gemm_f32_array(const StridedFloats& a, const py::array& packed, int64_t n, const std::string& variant,
                             int64_t k, std::optional<Offsets> offsets, std::optional<StridedFloats> pad_row,
                             std::optional<StridedFloats> bias, std::optional<StridedFloats> residual, float lo,
                             float hi, Part rows, Part columns, std::optional<StridedFloats> scratch,
                             std::optional<StridedFloats> out, int64_t repeats) {
  auto [g, result] = product_of(a, n, k, {offsets, pad_row, bias, residual, lo, hi, rows, columns, out});
  const int64_t wanted = gemm_f32_packed_elements(n, g.taps * g.k);
  g.packed_type = weight_dtype(packed, "gemm_f32: packed");
  check(packed.ndim() == 1 && packed.shape(0) == wanted && (packed.flags() & py::array::c_style) != 0,
        "gemm_f32: packed must be contiguous with ", wanted, " elements");
  check(g.n_begin % 64 == 0 && (g.n_end % 64 == 0 || g.n_end == n),
        "gemm_f32: columns must begin and end at multiples of 64 (or end at n)");
  StridedFloats room =
      contiguous_output(scratch, {gemm_f32_scratch_bytes(g.packed_type, n, g.taps * g.k) / 4}, "gemm_f32 scratch");
  g.scratch = room.mutable_data();
  g.packed = packed.data();
  run_variant("gemm_f32", gemm_f32_table(), variant, g, repeats);
  return result;
}

StridedFloats gemm_sparse_f32_array(const StridedFloats& a, const StridedFloats& w, const std::string& variant,
                                    int64_t block_rows, int64_t k, std::optional<Offsets> offsets,
                                    std::optional<StridedFloats> pad_row, std::optional<StridedFloats> bias,
                                    std::optional<StridedFloats> residual, float lo, float hi, Part rows, Part columns,
                                    std::optional<StridedFloats> scratch, std::optional<StridedFloats> out,
                                    int64_t repeats) {
  check(w.ndim() == 2 && contiguous(w), "gemm_sparse_f32: w must be contiguous (n, taps * k)");
  const int64_t n = w.shape(0), k_total = w.shape(1), r = block_rows;
  auto [g, result] = product_of(a, n, k, {offsets, pad_row, bias, residual, lo, hi, rows, columns, out});
  check(r == 1 || r == 2 || r == 4, "gemm_sparse_f32: block_rows is ", r, "; wanted 1, 2 or 4");
  check(k_total == g.taps * g.k, "gemm_sparse_f32: w must be (n, ", g.taps * g.k, ")");
  check(g.k > 0 && g.k % 4 == 0 && n % r == 0 && k_total <= kSparseF32MaxDepth,
        "gemm_sparse_f32: k must be a multiple of 4, n of ", r, ", and taps * k at most ", kSparseF32MaxDepth);
  check(g.n_begin % r == 0 && g.n_end % r == 0, "gemm_sparse_f32: columns must begin and end at multiples of ", r);
  const int64_t blocks = gemm_sparse_f32_count(w.data(), n, k_total, r);
  std::vector<uint32_t> begin(static_cast<size_t>(n / r + 1));
  std::vector<uint16_t> inputs(static_cast<size_t>(blocks));
  std::vector<float> values(static_cast<size_t>(blocks * r * 4));
  gemm_sparse_f32_pack(w.data(), n, k_total, r, begin.data(), inputs.data(), values.data());
  StridedFloats room =
      contiguous_output(scratch, {gemm_sparse_f32_scratch_bytes(n, k_total) / 4}, "gemm_sparse_f32 scratch");
  g.scratch = room.mutable_data();
  const GemmSparseF32Args args{g, {r, begin.data(), inputs.data(), values.data()}};
  run_variant("gemm_sparse_f32", gemm_sparse_f32_table(), variant, args, repeats);
  return result;
}

}  // namespace

void bind_gemm_f32(py::module_& m) {
  using py::arg;
  m.def("gemm_f32_pack", gemm_f32_pack_array, arg("w").noconvert(), arg("out").noconvert() = py::none());
  m.def(
      "gemm_f32_scratch_floats",
      [](const py::array& packed, int64_t n, int64_t k_total) {
        return gemm_f32_scratch_bytes(weight_dtype(packed, "gemm_f32_scratch_floats: packed"), n, k_total) / 4;
      },
      arg("packed"), arg("n"), arg("k_total"));
  m.def("gemm_f32", gemm_f32_array, arg("a").noconvert(), arg("packed").noconvert(), arg("n"), py::kw_only(),
        arg("variant"), arg("k") = 0, arg("offsets").noconvert() = py::none(), arg("pad_row").noconvert() = py::none(),
        arg("bias").noconvert() = py::none(), arg("residual").noconvert() = py::none(), arg("lo") = -kInf,
        arg("hi") = kInf, arg("rows") = py::none(), arg("columns") = py::none(),
        arg("scratch").noconvert() = py::none(), arg("out").noconvert() = py::none(), arg("repeats") = 1);
  m.def(
      "gemm_sparse_f32_scratch_floats",
      [](int64_t n, int64_t k_total) { return gemm_sparse_f32_scratch_bytes(n, k_total) / 4; }, arg("n"),
      arg("k_total"));
  m.def("gemm_sparse_f32", gemm_sparse_f32_array, arg("a").noconvert(), arg("w").noconvert(), py::kw_only(),
        arg("variant"), arg("block_rows"), arg("k") = 0, arg("offsets").noconvert() = py::none(),
        arg("pad_row").noconvert() = py::none(), arg("bias").noconvert() = py::none(),
        arg("residual").noconvert() = py::none(), arg("lo") = -kInf, arg("hi") = kInf, arg("rows") = py::none(),
        arg("columns") = py::none(), arg("scratch").noconvert() = py::none(), arg("out").noconvert() = py::none(),
        arg("repeats") = 1,
        "One row of the gemm_sparse_f32 table, on the blocks of w (n, taps * k) that are not zero; see "
        "gemm_sparse_f32.h. Else as gemm_f32.");
}

}  // namespace taille
