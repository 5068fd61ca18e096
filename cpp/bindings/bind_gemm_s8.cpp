// gemm_s8: linear layers and convolutions of int8 models.
#include "base/buffer.h"
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/gemm_s8.h"
#include "kernels/gemm_sparse_s8.h"

namespace taille {
namespace {

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

// What gemm_s8 and gemm_sparse_s8 share.
struct Options {
  std::optional<Array<int32_t>> offsets;
  std::optional<Array<uint8_t>> pad_row;
  py::object residual;
  float residual_scale, lo, hi;
  bool out_f32;
  Part m_range, n_range;
  py::object out;
};

// The arguments but for weights and scratch, and the output that they point to.
std::pair<GemmS8Args, py::array> product_of(const Array<uint8_t>& a, const Vectors& v, int64_t k, const Options& o) {
  check_vectors("gemm_s8", v);
  check(k >= 1 && a.ndim() >= 1, "gemm_s8: k must be positive and a an array");
  check(o.offsets ? o.offsets->ndim() == 2 : a.ndim() == 2 && a.shape(1) >= k,
        "gemm_s8: a must be (m, at least k), or offsets (m, taps)");
  GemmS8Args g{};
  g.n = v.offset.size();
  g.k = k;
  g.taps = o.offsets ? o.offsets->shape(1) : 1;
  const int64_t m = o.offsets ? o.offsets->shape(0) : a.shape(0);
  if (o.offsets) check_offsets("gemm_s8", *o.offsets, a.size(), k, o.pad_row ? o.pad_row->size() : 0);
  check(o.lo <= o.hi && (o.out_f32 || (o.lo >= 0 && o.hi <= 255)),
        "gemm_s8: lo and hi must be in order, and in 0 .. 255 for uint8");
  std::tie(g.m_begin, g.m_end) = part_of(o.m_range, m, "gemm_s8: m_range");
  std::tie(g.n_begin, g.n_end) = part_of(o.n_range, g.n, "gemm_s8: n_range");
  o.out_f32 ? set_residual<float>(g, o.residual, m) : set_residual<uint8_t>(g, o.residual, m);
  py::array rows = o.out_f32 ? rows_for<float>("gemm_s8", o.out, m, g.n) : rows_for<uint8_t>("gemm_s8", o.out, m, g.n);
  g.a = a.data();
  g.lda = a.ndim() == 2 ? a.shape(1) : 0;
  g.offsets = o.offsets ? o.offsets->data() : nullptr;
  g.pad_row = o.pad_row ? o.pad_row->data() : nullptr;
  g.offset = v.offset.data();
  g.scale = v.scale.data();
  g.bias = v.bias.data();
  g.residual_scale = o.residual_scale;
  g.lo = o.lo;
  g.hi = o.hi;
  g.out = rows.mutable_data();
  g.ldc = rows.shape(1);
  g.out_f32 = o.out_f32;
  return {g, rows};
}

py::array gemm_s8(const Array<uint8_t>& a, const Array<int8_t>& packed, const Array<int32_t>& offset,
                  const Array<float>& scale, const Array<float>& bias, const std::string& variant, int64_t k,
                  const std::optional<Array<int32_t>>& offsets, const std::optional<Array<uint8_t>>& pad_row,
                  const py::object& residual, float residual_scale, float lo, float hi, bool may_be_bounded,
                  bool pairs_may_fit, bool out_f32, const Part& m_range, const Part& n_range, const py::object& out,
                  const std::optional<Array<uint8_t>>& scratch, int64_t repeats) {
  auto [g, rows] = product_of(a, {offset, scale, bias}, k,
                              {offsets, pad_row, residual, residual_scale, lo, hi, out_f32, m_range, n_range, out});
  check(packed.size() == gemm_s8_packed_bytes(g.n, g.taps * k), "gemm_s8: packed has ", packed.size(),
        " bytes, wanted ", gemm_s8_packed_bytes(g.n, g.taps * k));
  check(g.n_begin % 64 == 0 && (g.n_end % 64 == 0 || g.n_end == g.n), "gemm_s8: n_range must be multiples of 64, or n");
  Array<uint8_t> work = output("gemm_s8 scratch", scratch, {gemm_s8_scratch_bytes(g.taps * k)});
  g.packed = packed.data();
  g.bounded = may_be_bounded && gemm_s8_bounded(g);
  g.pairs_fit = pairs_may_fit && gemm_s8_pairs_fit(g.packed, g.n, g.taps * g.k);
  g.scratch = work.mutable_data();
  run_variant("gemm_s8", gemm_s8_table(), variant, g, repeats);
  return rows;
}

py::array gemm_sparse_s8(const Array<uint8_t>& a, const Array<int8_t>& w, const Array<int32_t>& offset,
                         const Array<float>& scale, const Array<float>& bias, const std::string& variant, int64_t k,
                         int64_t block_rows, const std::optional<Array<int32_t>>& offsets,
                         const std::optional<Array<uint8_t>>& pad_row, const py::object& residual, float residual_scale,
                         float lo, float hi, bool may_be_bounded, bool out_f32, const Part& m_range,
                         const Part& n_range, const py::object& out, const std::optional<Array<uint8_t>>& scratch,
                         int64_t repeats) {
  auto [g, rows] = product_of(a, {offset, scale, bias}, k,
                              {offsets, pad_row, residual, residual_scale, lo, hi, out_f32, m_range, n_range, out});
  const int64_t k_total = g.taps * k, r = block_rows;
  check(r == 1 || r == 2 || r == 4 || r == kSparseS8ListRows, "gemm_sparse_s8: block_rows is ", r,
        "; wanted 1, 2, 4 or ", kSparseS8ListRows);
  check(w.ndim() == 2 && w.shape(0) == g.n && w.shape(1) == k_total, "gemm_sparse_s8: w must be (", g.n, ", ", k_total,
        ")");
  check(k % 4 == 0 && g.n % r == 0 && k_total <= kSparseS8MaxDepth, "gemm_sparse_s8: k must be a multiple of 4, n of ",
        r, ", and taps * k at most ", kSparseS8MaxDepth);
  check(g.n_begin % r == 0 && g.n_end % r == 0, "gemm_sparse_s8: n_range must be multiples of ", r);
  const int64_t blocks = gemm_sparse_s8_count(w.data(), g.n, k_total, r);
  std::vector<uint32_t> begin(static_cast<size_t>(g.n / r + 1));
  std::vector<uint16_t> inputs(static_cast<size_t>(blocks));
  Buffer values(static_cast<size_t>(blocks * r * 4));
  gemm_sparse_s8_pack(w.data(), g.n, k_total, r, begin.data(), inputs.data(), values.data<int8_t>());
  Array<uint8_t> work = output("gemm_sparse_s8 scratch", scratch, {gemm_sparse_s8_scratch_bytes(g.n, k_total)});
  g.bounded = may_be_bounded && gemm_s8_bounded(g);
  g.scratch = work.mutable_data();
  const GemmSparseS8Args args{g, {r, begin.data(), inputs.data(), values.data<int8_t>()}};
  run_variant("gemm_sparse_s8", gemm_sparse_s8_table(), variant, args, repeats);
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
        "pairs_may_fit"_a = true, "out_f32"_a = false, "m_range"_a = py::none(), "n_range"_a = py::none(),
        "out"_a = py::none(), py::arg("scratch").noconvert() = py::none(), "repeats"_a = 1,
        "One row of the gemm_s8 table; see gemm_s8.h. Rows and columns outside the ranges keep what is in `out`. "
        "`repeats` runs it again and again, to time it without this call.");
  m.def("gemm_sparse_s8_scratch_bytes", &gemm_sparse_s8_scratch_bytes, "n"_a, "k_total"_a,
        "Bytes of scratch that gemm_sparse_s8 needs.");
  m.def("gemm_sparse_s8", &gemm_sparse_s8, py::arg("a").noconvert(), py::arg("w").noconvert(),
        py::arg("offset").noconvert(), py::arg("scale").noconvert(), py::arg("bias").noconvert(), py::kw_only(),
        "variant"_a, "k"_a, "block_rows"_a, py::arg("offsets").noconvert() = py::none(),
        py::arg("pad_row").noconvert() = py::none(), "residual"_a = py::none(), "residual_scale"_a = 1.0f,
        "lo"_a = 0.0f, "hi"_a = 255.0f, "may_be_bounded"_a = true, "out_f32"_a = false, "m_range"_a = py::none(),
        "n_range"_a = py::none(), "out"_a = py::none(), py::arg("scratch").noconvert() = py::none(), "repeats"_a = 1,
        "One row of the gemm_sparse_s8 table, on the blocks of w (n, taps * k) that are not zero; see "
        "gemm_sparse_s8.h. Else as gemm_s8.");
}

}  // namespace taille
