// Inference of layers: linear, convolution, pooling, normalisation, attention.
#include "graph/op_spec.h"

namespace taille {

namespace {

using List = std::vector<int64_t>;

constexpr int64_t kMaxInt8Depth = 66311;  // 66311 * 255 * 127 < 2^31
constexpr int64_t kMaxExtent = 1 << 20;   // of a kernel, stride, padding or dilation

DType layer_output(const InferContext& c) {
  const DType out = dtype_from_name(c.text("dtype"));
  const bool int8 = c.in(1).dtype == DType::s8;
  c.want(out == DType::f32 || (int8 && out == DType::u8), "dtype ", name_of(out), " does not fit ",
         name_of(c.in(1).dtype), " weights");
  return out;
}

// What linear and conv2d share: dtypes, bias, residual, scales.
Inferred finish_layer(const InferContext& c, const Dim& channels, Shape shape) {
  const bool int8 = c.in(1).dtype == DType::s8;
  c.want(c.in(0).dtype == (int8 ? DType::u8 : DType::f32), "input is ", name_of(c.in(0).dtype), " but weights are ",
         name_of(c.in(1).dtype));
  c.want(c.graph.is_constant(c.node.inputs[1]), "the weight is not a constant");
  c.want(!int8 || c.in(0).quant, "the uint8 input has no scale");
  c.want(int8 == c.has(4), "int8 weights need w_scale, and only they");
  for (size_t i : {size_t{2}, size_t{4}}) {
    if (!c.has(i)) continue;
    c.want_dtype(i, {DType::f32});
    c.want(c.graph.is_constant(c.node.inputs[i]), "input ", i, " is not a constant");
    c.want(c.in(i).shape == Shape{channels}, "input ", i, " has shape ", text_of(c.in(i).shape), "; wanted [",
           channels.text(), "]");
  }
  const DType out = layer_output(c);
  if (c.has(3)) {
    c.want(c.in(3).dtype == out, "the residual is ", name_of(c.in(3).dtype), ", the output ", name_of(out));
    c.want(c.in(3).shape == shape, "the residual has shape ", text_of(c.in(3).shape), ", the output ", text_of(shape));
  }
  c.want(c.real("lo") <= c.real("hi"), "lo is above hi");
  return {out, std::move(shape)};
}

Inferred linear(const InferContext& c) {
  c.want_dtype(1, {DType::f32, DType::f16, DType::bf16, DType::s8});
  const Shape& x = c.in(0).shape;
  const Shape& w = c.in(1).shape;
  c.want(w.size() == 2, "the weight is ", text_of(w), "; wanted [out, in]");
  c.want(!x.empty() && x.back() == w[1], "input ", text_of(x), " does not fit weight ", text_of(w));
  c.want(c.in(1).dtype != DType::s8 || w[1].constant() <= kMaxInt8Depth, "int8 depth above ", kMaxInt8Depth);
  Shape shape = x;
  shape.back() = w[0];
  return finish_layer(c, w[0], std::move(shape));
}

const List& pair_attr(const InferContext& c, const char* key, size_t size, int64_t least) {
  const List& v = c.list(key);
  c.want(v.size() == size, key, " has ", v.size(), " entries; wanted ", size);
  for (int64_t e : v) c.want(e >= least && e <= kMaxExtent, key, " entry ", e, " is out of range");
  return v;
}

// Output extent of a sliding window along one image axis.
Dim window_extent(const InferContext& c, const Dim& in, int64_t pad, int64_t kernel, int64_t dilation, int64_t stride) {
  const Dim span = in + Dim(pad - dilation * (kernel - 1) - 1);
  c.want(!span.is_constant() || span.constant() >= 0, "a window of ", dilation * (kernel - 1) + 1,
         " does not fit an extent of ", in.text(), " with padding ", pad);
  return Dim::floor_div(span, stride) + Dim(1);
}

Shape window_output(const InferContext& c, const Dim& channels, int64_t kh, int64_t kw, const List& dilation) {
  const bool last = c.channels_last();
  const Shape& x = c.in(0).shape;
  const List& stride = pair_attr(c, "stride", 2, 1);
  const List& padding = pair_attr(c, "padding", 4, 0);
  const Dim h = window_extent(c, x[last ? 1 : 2], padding[0] + padding[2], kh, dilation[0], stride[0]);
  const Dim w = window_extent(c, x[last ? 2 : 3], padding[1] + padding[3], kw, dilation[1], stride[1]);
  return last ? Shape{x[0], h, w, channels} : Shape{x[0], channels, h, w};
}

Inferred conv2d(const InferContext& c) {
  c.want_dtype(1, {DType::f32, DType::f16, DType::bf16, DType::s8});
  const bool last = c.channels_last();
  const Shape& x = c.in(0).shape;
  const Shape& w = c.in(1).shape;
  c.want(x.size() == 4, "input is ", text_of(x), "; wanted 4 dimensions");
  c.want(w.size() == 4, "weight is ", text_of(w), "; wanted 4 dimensions");
  const int64_t groups = c.integer("groups");
  const int64_t out = w[0].constant();
  c.want(groups >= 1 && out % groups == 0, "groups ", groups, " does not divide ", out, " output channels");
  const Dim in = x[last ? 3 : 1], per_group = w[last ? 3 : 1];
  c.want(in == per_group * Dim(groups), "input has ", in.text(), " channels; weight and groups want ",
         (per_group * Dim(groups)).text());
  const int64_t kh = w[last ? 1 : 2].constant(), kw = w[last ? 2 : 3].constant();
  for (const int64_t extent : {kh, kw, per_group.constant()})
    c.want(extent >= 1 && extent <= kMaxExtent, "weight ", text_of(w), " is empty or too large");
  c.want(c.in(1).dtype != DType::s8 || kh * kw * per_group.constant() <= kMaxInt8Depth, "int8 depth above ",
         kMaxInt8Depth);
  return finish_layer(c, w[0], window_output(c, w[0], kh, kw, pair_attr(c, "dilation", 2, 1)));
}

Inferred batch_norm(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  const Shape& x = c.in(0).shape;
  c.want(x.size() >= 2, "input is ", text_of(x), "; wanted [N, C, ..]");
  for (size_t i = 1; i < 5; ++i) {
    c.want_dtype(i, {DType::f32});
    c.want(c.in(i).shape == Shape{x[1]}, "input ", i, " is ", text_of(c.in(i).shape), "; wanted [", x[1].text(), "]");
  }
  c.want(c.real("epsilon") >= 0, "epsilon is negative");
  return {DType::f32, x};
}

Inferred pool2d(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::u8});
  c.want(c.in(0).shape.size() == 4, "input is ", text_of(c.in(0).shape), "; wanted 4 dimensions");
  const bool max = c.node.op == "max_pool2d";
  const List& kernel = pair_attr(c, "kernel", 2, 1);
  const List& padding = pair_attr(c, "padding", 4, 0);
  for (size_t i = 0; i < 4; ++i) c.want(padding[i] <= kernel[i % 2] / 2 || max, "padding above half the kernel");
  const List dilation = max ? pair_attr(c, "dilation", 2, 1) : List{1, 1};
  const Dim channels = c.in(0).shape[c.channels_last() ? 3 : 1];
  return {c.in(0).dtype, window_output(c, channels, kernel[0], kernel[1], dilation)};
}

Inferred adaptive_pool(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::u8});
  const Shape& x = c.in(0).shape;
  c.want(x.size() == 4, "input is ", text_of(x), "; wanted 4 dimensions");
  const List& size = pair_attr(c, "output_size", 2, 1);
  if (c.channels_last()) return {c.in(0).dtype, {x[0], Dim(size[0]), Dim(size[1]), x[3]}};
  return {c.in(0).dtype, {x[0], x[1], Dim(size[0]), Dim(size[1])}};
}

Inferred mean(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::u8});
  const Shape& x = c.in(0).shape;
  std::vector<char> reduced(x.size(), 0);
  c.want(!c.list("axes").empty(), "axes is empty");
  for (int64_t a : c.list("axes")) {
    c.want(a >= 0 && a < static_cast<int64_t>(x.size()), "axis ", a, " is outside rank ", x.size());
    c.want(!reduced[static_cast<size_t>(a)], "axis ", a, " is listed twice");
    reduced[static_cast<size_t>(a)] = 1;
  }
  Shape shape;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!reduced[i])
      shape.push_back(x[i]);
    else if (c.flag("keepdim"))
      shape.push_back(Dim(1));
  }
  return {c.in(0).dtype, shape};
}

Inferred norm(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  const Shape& x = c.in(0).shape;
  const int64_t axes = c.integer("axes");
  c.want(axes >= 1 && axes <= static_cast<int64_t>(x.size()), "axes ", axes, " is outside rank ", x.size());
  const Shape tail(x.end() - axes, x.end());
  for (size_t i = 1; i < 3; ++i) {
    if (!c.has(i)) continue;
    c.want_dtype(i, {DType::f32});
    c.want(c.in(i).shape == tail, "input ", i, " is ", text_of(c.in(i).shape), "; wanted ", text_of(tail));
  }
  c.want(c.real("epsilon") >= 0, "epsilon is negative");
  const DType out = dtype_from_name(c.text("dtype"));
  c.want(out == DType::f32 || out == DType::u8, "dtype is ", name_of(out), "; wanted float32 or uint8");
  return {out, x};
}

Inferred embedding(const InferContext& c) {
  c.want_dtype(0, {DType::f32, DType::f16, DType::bf16, DType::s8});
  c.want_dtype(1, {DType::s64});
  c.want(c.in(0).shape.size() == 2, "the table is ", text_of(c.in(0).shape), "; wanted 2 dimensions");
  const bool int8 = c.in(0).dtype == DType::s8;
  c.want(int8 == c.has(2), "an int8 table needs a scale, and only that");
  if (int8) {
    c.want_dtype(2, {DType::f32});
    c.want(c.graph.is_constant(c.node.inputs[0]) && c.graph.is_constant(c.node.inputs[2]),
           "an int8 table and its scale must be constants");
    c.want(c.in(2).shape == Shape{c.in(0).shape[0]}, "the scale has shape ", text_of(c.in(2).shape), "; wanted [",
           c.in(0).shape[0].text(), "]");
  }
  Shape shape = c.in(1).shape;
  shape.push_back(c.in(0).shape[1]);
  return {DType::f32, shape};
}

Inferred matmul(const InferContext& c) {
  c.want_dtype(0, {DType::f32});
  c.want_dtype(1, {DType::f32});
  const Shape& a = c.in(0).shape;
  const Shape& b = c.in(1).shape;
  c.want(a.size() >= 2 && b.size() >= 2, "inputs are ", text_of(a), " and ", text_of(b), "; wanted matrices");
  c.want(a.back() == b[b.size() - 2], "inner sizes of ", text_of(a), " and ", text_of(b), " differ");
  Shape shape;
  try {
    shape = broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  } catch (const std::invalid_argument& e) {
    c.want(false, e.what());
  }
  shape.push_back(a[a.size() - 2]);
  shape.push_back(b.back());
  return {DType::f32, shape};
}

Inferred sdpa(const InferContext& c) {
  const bool int8 = c.in(0).dtype == DType::u8;
  const DType result = dtype_from_name(c.text("dtype"));
  c.want(result == DType::f32 || (int8 && result == DType::u8), "dtype ", name_of(result), " does not fit ",
         name_of(c.in(0).dtype), " inputs");
  for (size_t i = 0; i < 3; ++i) {
    c.want_dtype(i, {int8 ? DType::u8 : DType::f32});
    c.want(!int8 || c.in(i).quant, "uint8 input ", i, " has no scale");
    c.want(c.in(i).shape.size() == c.in(0).shape.size() && c.in(i).shape.size() >= 2, "q, k and v differ in rank");
  }
  const Shape &q = c.in(0).shape, &k = c.in(1).shape, &v = c.in(2).shape;
  const size_t rank = q.size();
  const bool heads_last = c.flag("heads_last");
  c.want(!heads_last || rank == 4, "heads_last wants rank 4");
  const size_t seq = heads_last ? 1 : rank - 2, dim = rank - 1;
  for (size_t i = 0; i < rank; ++i) {
    if (i != seq && i != dim) c.want(q[i] == k[i] && k[i] == v[i], "q, k and v differ in dimension ", i);
  }
  c.want(q[dim] == k[dim], "q and k differ in depth");
  c.want(k[seq] == v[seq], "k and v differ in length");
  if (c.has(3)) {
    c.want_dtype(3, {DType::f32, DType::boolean});
    Shape scores = q;
    if (heads_last) std::swap(scores[1], scores[2]);
    scores[rank - 2] = q[seq];
    scores[rank - 1] = k[seq];
    try {
      c.want(broadcast(c.in(3).shape, scores) == scores, "the mask is larger than the scores");
    } catch (const std::invalid_argument& e) {
      c.want(false, "mask: ", e.what());
    }
  }
  Shape out = q;
  out[dim] = v[dim];
  return {result, out};
}

}  // namespace

std::vector<OpSpec> layer_ops() {
  const AttrSpec lo{"lo", -kInfinity}, hi{"hi", kInfinity}, dtype{"dtype", std::string("float32")},
      layout{"layout", std::string("nchw")}, stride{"stride", List{1, 1}}, padding{"padding", List{0, 0, 0, 0}},
      dilation{"dilation", List{1, 1}}, epsilon{"epsilon", 0.0, true}, kernel{"kernel", List{}, true};
  return {
      {"linear", 2, 5, {lo, hi, dtype}, linear},
      {"conv2d", 2, 5, {stride, padding, dilation, {"groups", int64_t{1}}, layout, lo, hi, dtype}, conv2d},
      {"batch_norm", 5, 5, {epsilon}, batch_norm},
      {"max_pool2d", 1, 1, {kernel, stride, padding, dilation, layout}, pool2d},
      {"avg_pool2d",
       1,
       1,
       {kernel, stride, padding, {"count_include_pad", true}, {"divisor", int64_t{0}}, layout},
       pool2d},
      {"adaptive_avg_pool2d", 1, 1, {{"output_size", List{}, true}, layout}, adaptive_pool},
      {"mean", 1, 1, {{"axes", List{}, true}, {"keepdim", false}}, mean},
      {"layer_norm", 1, 3, {{"axes", int64_t{1}}, epsilon, dtype}, norm},
      {"rms_norm", 1, 2, {{"axes", int64_t{1}}, epsilon, dtype}, norm},
      {"embedding", 2, 3, {}, embedding},
      {"matmul", 2, 2, {}, matmul},
      {"sdpa", 3, 4, {{"scale", 1.0, true}, {"causal", false}, {"heads_last", false}, dtype}, sdpa},
  };
}

}  // namespace taille
