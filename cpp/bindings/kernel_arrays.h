// Checks and pointers for the bindings of single float kernels.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/run_variant.h"

namespace taille {

constexpr float kInf = std::numeric_limits<float>::infinity();

using StridedFloats = py::array_t<float>;
using Offsets = Array<int32_t>;

void bind_elementwise(py::module_& m);
void bind_gemm_f32(py::module_& m);

inline bool contiguous(const StridedFloats& x) { return (x.flags() & py::array::c_style) != 0; }

// The rows of a 2-D array whose last dimension is contiguous; *stride in floats. columns < 0: any.
inline const float* rows_of(const StridedFloats& x, int64_t columns, const char* what, int64_t* stride) {
  check(x.ndim() == 2, what, " must be 2-D, got ", x.ndim(), "-D");
  check(columns < 0 || x.shape(1) == columns, what, " must have ", columns, " columns, got ", x.shape(1));
  const int64_t item = sizeof(float);
  check(x.shape(1) <= 1 || x.strides(1) == item, what, " must be contiguous in its last dimension");
  check(x.strides(0) % item == 0, what, ": the row stride must be whole floats");
  *stride = x.strides(0) / item;
  return x.data();
}

inline float* mutable_rows_of(StridedFloats& x, int64_t* stride) {
  rows_of(x, -1, "out", stride);
  return x.mutable_data();
}

inline const float* vector_of(const std::optional<StridedFloats>& x, int64_t n, const char* what) {
  if (!x) return nullptr;
  check(x->ndim() == 1 && x->shape(0) == n && contiguous(*x), what, " must be contiguous with ", n, " elements");
  return x->data();
}

inline StridedFloats output(const std::optional<StridedFloats>& out, const std::vector<int64_t>& shape,
                            const char* what) {
  if (!out) return StridedFloats(shape);
  check(out->ndim() == static_cast<int64_t>(shape.size()) && std::equal(shape.begin(), shape.end(), out->shape()), what,
        ": out has the wrong shape");
  return *out;
}

inline StridedFloats contiguous_output(const std::optional<StridedFloats>& out, const std::vector<int64_t>& shape,
                                       const char* what) {
  if (out) check(contiguous(*out), what, ": out must be contiguous");
  return output(out, shape, what);
}

struct Taps {
  int64_t rows, taps;
};

// Checks that every tap of `k` floats lies in a flat `a`, and that there is a pad row where one is needed.
inline Taps taps_of(const Offsets& offsets, const StridedFloats& a, const std::optional<StridedFloats>& pad_row,
                    int64_t k, const char* what) {
  check(offsets.ndim() == 2, what, ": offsets must be 2-D (rows, taps)");
  check(a.ndim() == 1 && contiguous(a), what, ": with offsets, a must be a contiguous 1-D array");
  check(k > 0, what, ": with offsets, k must be given");
  vector_of(pad_row, k, "pad_row");
  const int32_t* p = offsets.data();
  for (int64_t i = 0; i < offsets.size(); ++i)
    check(p[i] < 0 ? pad_row.has_value() : p[i] + k <= a.size(), what, ": offset ", p[i], " runs outside a");
  return {offsets.shape(0), offsets.shape(1)};
}

}  // namespace taille
