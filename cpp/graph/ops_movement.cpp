// Inference of ops that move, select or make data.
#include "graph/op_spec.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

Inferred reshape(const InferContext& c) {
  const Shape& to = c.dims("shape");
  c.want(element_count(c.in(0).shape) == element_count(to), text_of(c.in(0).shape), " does not fit ", text_of(to));
  return {c.in(0).dtype, to};
}

Inferred permute(const InferContext& c) {
  const Shape& x = c.in(0).shape;
  const List& axes = c.list("axes");
  c.want(axes.size() == x.size(), "axes has ", axes.size(), " entries for rank ", x.size());
  std::vector<char> seen(x.size(), 0);
  Shape shape;
  for (int64_t a : axes) {
    c.want(a >= 0 && a < static_cast<int64_t>(x.size()) && !seen[static_cast<size_t>(a)], "axes is no permutation");
    seen[static_cast<size_t>(a)] = 1;
    shape.push_back(x[static_cast<size_t>(a)]);
  }
  return {c.in(0).dtype, shape};
}

Inferred expand(const InferContext& c) {
  const Shape& x = c.in(0).shape;
  const Shape& to = c.dims("shape");
  c.want(to.size() >= x.size(), text_of(x), " has more dimensions than ", text_of(to));
  for (size_t i = 0; i < x.size(); ++i) {
    const Dim& d = to[to.size() - x.size() + i];
    c.want(x[i] == d || x[i] == Dim(1), text_of(x), " does not expand to ", text_of(to));
  }
  return {c.in(0).dtype, to};
}

Inferred slice(const InferContext& c) {
  Shape shape = c.in(0).shape;
  const size_t axis = c.axis("axis", shape.size());
  const Shape &start = c.dims("start"), &length = c.dims("length");
  c.want(start.size() == 1 && length.size() == 1, "start and length are single dimensions");
  c.want(c.integer("step") >= 1, "step ", c.integer("step"), " is below 1");
  if (start[0].is_constant() && length[0].is_constant() && shape[axis].is_constant()) {
    const int64_t n = length[0].constant(), s = start[0].constant(), extent = shape[axis].constant();
    c.want(s >= 0 && n >= 0, "start ", s, " or length ", n, " is negative");
    // Divided, not multiplied: a product of a hostile length and step overflows.
    c.want(n == 0 || (s < extent && n - 1 <= (extent - 1 - s) / c.integer("step")), "reaches outside an extent of ",
           shape[axis].text());
  }
  shape[axis] = length[0];
  return {c.in(0).dtype, shape};
}

Inferred gather(const InferContext& c) {
  c.want_dtype(1, {DType::s64});
  const Shape &x = c.in(0).shape, &index = c.in(1).shape;
  c.want(x.size() == index.size() && !x.empty(), "x and index differ in rank");
  const size_t axis = c.axis("axis", x.size());
  for (size_t i = 0; i < x.size(); ++i)
    c.want(i == axis || x[i] == index[i] || index[i] == Dim(1), "index ", text_of(index), " does not fit ", text_of(x));
  return {c.in(0).dtype, index};
}

Inferred index(const InferContext& c) {
  const size_t count = c.node.inputs.size() - 1;
  const Shape& x = c.in(0).shape;
  c.want(count >= 1 && count <= x.size(), count, " indices for rank ", x.size());
  Shape shape;
  for (size_t i = 1; i <= count; ++i) {
    c.want(c.has(i), "index ", i, " is missing");
    c.want_dtype(i, {DType::s64});
    try {
      shape = broadcast(shape, c.in(i).shape);
    } catch (const std::invalid_argument& e) {
      c.want(false, e.what());
    }
  }
  shape.insert(shape.end(), x.begin() + static_cast<int64_t>(count), x.end());
  return {c.in(0).dtype, shape};
}

Inferred concat_(const InferContext& c) {
  Shape shape = c.in(0).shape;
  const size_t axis = c.axis("axis", shape.size());
  Dim extent(0);
  for (size_t i = 0; i < c.node.inputs.size(); ++i) {
    c.want(c.has(i), "input ", i, " is missing");
    c.want(c.in(i).dtype == c.in(0).dtype, "inputs differ in dtype");
    const Shape& s = c.in(i).shape;
    c.want(s.size() == shape.size(), "inputs differ in rank");
    for (size_t d = 0; d < s.size(); ++d) c.want(d == axis || s[d] == shape[d], "inputs differ in dimension ", d);
    extent = extent + s[axis];
  }
  shape[axis] = extent;
  return {c.in(0).dtype, shape};
}

Inferred pad(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::u8});
  Shape shape = c.in(0).shape;
  const List &before = c.list("before"), &after = c.list("after");
  c.want(before.size() == shape.size() && after.size() == shape.size(), "before and after want an entry per axis");
  for (size_t i = 0; i < shape.size(); ++i) {
    c.want(before[i] >= 0 && after[i] >= 0 && before[i] < (1 << 24) && after[i] < (1 << 24), "padding out of range");
    shape[i] = shape[i] + Dim(before[i] + after[i]);
  }
  c.want(std::isfinite(c.real("value")) || c.in(0).dtype == DType::f32, "value is not finite");
  return {c.in(0).dtype, shape};
}

Inferred arange(const InferContext& c) {
  c.want(c.dims("length").size() == 1, "length is a single dimension");
  return {DType::s64, c.dims("length")};
}

Inferred full(const InferContext& c) {
  const DType t = dtype_from_name(c.text("dtype"));
  c.want(t == DType::f32 || t == DType::s64 || t == DType::boolean, "dtype ", name_of(t));
  return {t, c.dims("shape")};
}

}  // namespace

std::vector<OpSpec> movement_ops() {
  const AttrSpec axis{"axis", int64_t{0}, true}, shape{"shape", Shape{}, true}, length{"length", Shape{}, true};
  return {
      {"reshape", 1, 1, {shape}, reshape},
      {"permute", 1, 1, {{"axes", List{}, true}}, permute},
      {"expand", 1, 1, {shape}, expand},
      {"slice", 1, 1, {axis, {"start", Shape{}, true}, length, {"step", int64_t{1}}}, slice},
      {"gather", 2, 2, {axis}, gather},
      {"index", 2, 9, {}, index},
      {"concat", 1, kMaxInputs, {axis}, concat_},
      {"pad", 1, 1, {{"before", List{}, true}, {"after", List{}, true}, {"value", 0.0}}, pad},
      {"arange", 0, 0, {{"start", int64_t{0}}, {"step", int64_t{1}}, length}, arange},
      {"full", 0, 0, {shape, {"value", 0.0, true}, {"dtype", std::string(), true}}, full},
  };
}

}  // namespace taille
