// gemm_s8: linear layers and convolutions of int8 models.
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/gemm_s8.h"

namespace taille {
namespace {

using Range = std::optional<std::pair<int64_t, int64_t>>;

// Checks begin <= end inside 0 .. size; all of it where there is no range.
std::pair<int64_t, int64_t> range_of(const char* name, const Range& range, int64_t size) {
  if (!range) return {0, size};
  check(0 <= range->first && range->first <= range->second && range->second <= size, "gemm_s8: ", name, " (",
        range->first, ", ", range->second, ") is not inside 0 .. ", size);
  return *range;
}

struct Vectors {
  Array<int32_t> offset;
  Array<float> scale, bias;
};

void check_vectors(const char* op, const Vectors& v) {
  check(v.offset.ndim() == 1 && v.scale.ndim() == 1 && v.bias.ndim() == 1 && v.scale.size() == v.offset.size() &&
            v.bias.size() == v.offset.size(),
        op, ": offset, scale and bias must be 1-D of one length");
}

// The output: m rows of at least n elements.
template <class T>
py::array rows_for(const char* op, const py::object& out, int64_t m, int64_t n) {
  if (out.is_none()) return Array<T>({m, n});
  check(py::isinstance<Array<T>>(out), op, ": out must be a C-contiguous array of ",
        sizeof(T) == 1 ? "uint8" : "float32");
  auto rows = py::reinterpret_borrow<py::array>(out);
  check(rows.ndim() == 2 && rows.shape(0) >= m && rows.shape(1) >= n, op, ": out must be at least (", m, ", ", n, ")");
  return rows;
}

template <class T>
void set_residual(GemmS8Args& g, const py::object& residual, int64_t m) {
  if (residual.is_none()) return;
  check(py::isinstance<Array<T>>(residual), "gemm_s8: residual must be a C-contiguous array of the output's dtype");
  const auto rows = py::reinterpret_borrow<py::array>(residual);
  check(rows.ndim() == 2 && rows.shape(0) >= m && rows.shape(1) >= g.n, "gemm_s8: residual must be at least (", m, ", ",
        g.n, ")");
  g.residual = rows.data();
  g.residual_stride = rows.shape(1);
}

py::array gemm_s8(const Array<uint8_t>& a, const Array<int8_t>& packed, const Array<int32_t>& offset,
                  const Array<float>& scale, const Array<float>& bias, const std::string& variant, int64_t k,
                  const std::optional<Array<int32_t>>& offsets, const std::optional<Array<uint8_t>>& pad_row,
                  const py::object& residual, float residual_scale, float lo, float hi, bool may_be_bounded,
                  bool out_f32, const Range& m_range, const Range& n_range, const py::object& out,
                  const std::optional<Array<uint8_t>>& scratch, int64_t repeats) {
  check_vectors("gemm_s8", {offset, scale, bias});
  check(k >= 1 && a.ndim() >= 1, "gemm_s8: k must be positive and a an array");
  check(offsets ? offsets->ndim() == 2 : a.ndim() == 2 && a.shape(1) >= k,
        "gemm_s8: a must be (m, at least k), or offsets (m, taps)");
  GemmS8Args g{};
  g.n = offset.size();
  g.k = k;
  g.taps = offsets ? offsets->shape(1) : 1;
  const int64_t m = offsets ? offsets->shape(0) : a.shape(0);
  if (offsets) check_offsets("gemm_s8", *offsets, a.size(), k, pad_row ? pad_row->size() : 0);
  check(packed.size() == gemm_s8_packed_bytes(g.n, g.taps * k), "gemm_s8: packed has ", packed.size(),
        " bytes, wanted ", gemm_s8_packed_bytes(g.n, g.taps * k));
  check(lo <= hi && (out_f32 || (lo >= 0 && hi <= 255)),
        "gemm_s8: lo and hi must be in order, and in 0 .. 255 for uint8");

  std::tie(g.m_begin, g.m_end) = range_of("m_range", m_range, m);
  std::tie(g.n_begin, g.n_end) = range_of("n_range", n_range, g.n);
  check(g.n_begin % 64 == 0 && (g.n_end % 64 == 0 || g.n_end == g.n), "gemm_s8: n_range must be multiples of 64, or n");
  out_f32 ? set_residual<float>(g, residual, m) : set_residual<uint8_t>(g, residual, m);
  py::array rows = out_f32 ? rows_for<float>("gemm_s8", out, m, g.n) : rows_for<uint8_t>("gemm_s8", out, m, g.n);
  Array<uint8_t> work = output("gemm_s8 scratch", scratch, {gemm_s8_scratch_bytes(g.taps * k)});

  g.a = a.data();
  g.lda = a.ndim() == 2 ? a.shape(1) : 0;
  g.offsets = offsets ? offsets->data() : nullptr;
  g.pad_row = pad_row ? pad_row->data() : nullptr;
  g.packed = packed.data();
  g.offset = offset.data();
  g.scale = scale.data();
  g.bias = bias.data();
  g.residual_scale = residual_scale;
  g.lo = lo;
  g.hi = hi;
  g.bounded = may_be_bounded && gemm_s8_bounded(g);
  g.out = rows.mutable_data();
  g.ldc = rows.shape(1);
  g.out_f32 = out_f32;
  g.scratch = work.mutable_data();
  run_variant("gemm_s8", gemm_s8_table(), variant, g, repeats);
  return rows;
}

Array<int8_t> pack(const Array<int8_t>& w) {
  check(w.ndim() == 2, "gemm_s8_pack: w must be (n, k), got ", w.ndim(), "-D");
  Array<int8_t> packed(gemm_s8_packed_bytes(w.shape(0), w.shape(1)));
  gemm_s8_pack(w.data(), w.shape(0), w.shape(1), packed.mutable_data());
  return packed;
}

}  // namespace

void bind_gemm_s8(py::module_& m) {
  using namespace py::literals;
  m.def("gemm_s8_pack", &pack, py::arg("w").noconvert(), "Pack int8 weights (n, k) for gemm_s8.");
  m.def("gemm_s8_scratch_bytes", &gemm_s8_scratch_bytes, "k_total"_a, "Bytes of scratch that gemm_s8 needs.");
  m.def("gemm_s8", &gemm_s8, py::arg("a").noconvert(), py::arg("packed").noconvert(), py::arg("offset").noconvert(),
        py::arg("scale").noconvert(), py::arg("bias").noconvert(), py::kw_only(), "variant"_a, "k"_a,
        py::arg("offsets").noconvert() = py::none(), py::arg("pad_row").noconvert() = py::none(),
        "residual"_a = py::none(), "residual_scale"_a = 1.0f, "lo"_a = 0.0f, "hi"_a = 255.0f, "may_be_bounded"_a = true,
        "out_f32"_a = false, "m_range"_a = py::none(), "n_range"_a = py::none(), "out"_a = py::none(),
        py::arg("scratch").noconvert() = py::none(), "repeats"_a = 1,
        "One row of the gemm_s8 table; see gemm_s8.h. Rows and columns outside the ranges keep what is in `out`. "
        "`repeats` runs it again and again, to time it without this call.");
}

}  // namespace taille
