#include <algorithm>

#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/movement.h"

namespace taille {
namespace {

void set_strides(const py::array& x, int64_t* strides) {
  for (py::ssize_t d = 0; d < x.ndim(); ++d) {
    check(x.strides(d) % x.itemsize() == 0, "copy: strides must be whole elements");
    strides[d] = x.strides(d) / x.itemsize();
  }
}

void copy(const py::array& x, py::array out, const std::string& variant) {
  check(x.ndim() <= kMaxRank && shape_of(x) == shape_of(out), "copy: wanted two arrays of one shape, at most ",
        kMaxRank, "-D");
  check(x.itemsize() == out.itemsize() && (x.itemsize() == 1 || x.itemsize() == 4 || x.itemsize() == 8),
        "copy: wanted elements of 1, 4 or 8 bytes on both sides");
  CopyArgs g{};
  g.in = x.data();
  g.out = out.mutable_data();
  g.element_size = x.itemsize();
  g.rank = static_cast<int>(x.ndim());
  std::copy_n(x.shape(), x.ndim(), g.dims);
  set_strides(x, g.in_strides);
  set_strides(out, g.out_strides);
  run_variant("copy", copy_table(), variant, g);
}

int64_t embedding(const py::array& table, const Array<int64_t>& ids, py::array out, const std::string& variant) {
  check(table.ndim() == 2 && (table.flags() & py::array::c_style), "embedding: table must be 2-D and C-contiguous");
  check(out.ndim() == 2 && (out.flags() & py::array::c_style) && out.shape(0) == ids.size() &&
            out.shape(1) == table.shape(1) && out.itemsize() == table.itemsize(),
        "embedding: out must be (", ids.size(), ", ", table.shape(1), "), C-contiguous, of the table's element size");
  int64_t bad_index = 0;
  const EmbeddingArgs g{table.data(),       table.shape(0), table.shape(1) * table.itemsize(), ids.data(), ids.size(),
                        out.mutable_data(), &bad_index};
  run_variant("embedding", embedding_table(), variant, g);
  return bad_index;
}

int64_t embedding_s8(const Array<int8_t>& table, const Array<float>& scale, const Array<int64_t>& ids, Array<float> out,
                     const std::string& variant) {
  check(table.ndim() == 2 && scale.ndim() == 1 && scale.shape(0) == table.shape(0),
        "embedding_s8: wanted a table [rows, width] and a scale per row");
  check(out.ndim() == 2 && out.shape(0) == ids.size() && out.shape(1) == table.shape(1), "embedding_s8: out must be (",
        ids.size(), ", ", table.shape(1), ")");
  int64_t bad_index = 0;
  const EmbeddingS8Args g{table.data(), scale.data(), table.shape(0),     table.shape(1),
                          ids.data(),   ids.size(),   out.mutable_data(), &bad_index};
  run_variant("embedding_s8", embedding_s8_table(), variant, g);
  return bad_index;
}

}  // namespace

void bind_movement(py::module_& m) {
  using namespace py::literals;
  m.def("copy", &copy, "x"_a, "out"_a, py::kw_only(), "variant"_a, "Copy x to out, whatever the strides of both.");
  m.def("embedding", &embedding, "table"_a, py::arg("ids").noconvert(), "out"_a, py::kw_only(), "variant"_a,
        "out[i] = table[ids[i]]; gives the index of the first bad id, or -1.");
  m.def("embedding_s8", &embedding_s8, py::arg("table").noconvert(), py::arg("scale").noconvert(),
        py::arg("ids").noconvert(), py::arg("out").noconvert(), py::kw_only(), "variant"_a,
        "out[i] = table[ids[i]] * scale[ids[i]]; gives the index of the first bad id, or -1.");
}

}  // namespace taille
