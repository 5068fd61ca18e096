// Pruning masks: over threads as users get them, and the single kernels by the name of their variant.
#include <numeric>

#include "base/isa.h"
#include "bindings/bind_kernels_int8.h"
#include "bindings/kernel_call.h"
#include "kernels/pruning_mask.h"
#include "runtime/pruning_mask.h"

namespace taille {
namespace {

using Norm = std::optional<Floats>;

ScoredTensor tensor_of(const Floats& w, const Norm& norm) {
  check(w.ndim() == 2, "w must be 2-D (rows, columns), got ", w.ndim(), "-D");
  if (norm)
    check(norm->ndim() == 1 && norm->size() == w.shape(1), "norm must have ", w.shape(1), " elements, one per column");
  return {{w.data(), norm ? norm->data() : nullptr, w.shape(1)}, w.shape(0)};
}

void check_group(int64_t n, int64_t m, int64_t columns) {
  check(1 <= n && n <= m, "n is ", n, " and m is ", m, "; wanted 1 <= n <= m");
  check(columns % m == 0, "m is ", m, ", which does not divide the ", columns, " columns of w");
}

void check_block(const BlockShape& block, const ScoredTensor& w) {
  check(block.rows >= 1 && block.columns >= 1 && w.rows % block.rows == 0 && w.x.columns % block.columns == 0,
        "block is ", block.rows, " x ", block.columns, ", which does not divide w of ", w.rows, " x ", w.x.columns);
}

int count_of_threads(int threads) { return threads > 0 ? threads : granted_threads().threads; }

uint8_t* bytes_of(Array<bool>& mask) { return reinterpret_cast<uint8_t*>(mask.mutable_data()); }

// ---- Over threads ----

void check_values(const Floats& x, const std::string& name, bool may_be_negative, int threads) {
  const std::span<const float> values(x.data(), static_cast<size_t>(x.size()));
  const py::gil_scoped_release nogil;  // raw pointers only; the caller's frame holds the array
  ThreadPool pool(count_of_threads(threads));
  check_scores({pool, active_isa()}, values, name, may_be_negative);
}

py::list magnitude(const std::vector<Floats>& w, const std::vector<Norm>& norms, int64_t kept, int threads) {
  check(norms.size() == w.size(), "norms has ", norms.size(), " elements; wanted one per tensor");
  std::vector<ScoredTensor> tensors;
  std::vector<Array<bool>> masks;
  std::vector<uint8_t*> bytes;
  for (size_t i = 0; i < w.size(); ++i) {
    tensors.push_back(tensor_of(w[i], norms[i]));
    masks.emplace_back(shape_of(w[i]));
    bytes.push_back(bytes_of(masks.back()));
  }
  const int64_t total = std::accumulate(tensors.begin(), tensors.end(), int64_t{0},
                                        [](int64_t sum, const ScoredTensor& t) { return sum + t.size(); });
  check(0 <= kept && kept <= total, "kept is ", kept, "; wanted 0 .. ", total);
  {
    const py::gil_scoped_release nogil;  // raw pointers only; `w`, `norms` and `masks` hold the arrays
    ThreadPool pool(count_of_threads(threads));
    magnitude_masks({pool, active_isa()}, tensors, kept, bytes);
  }
  py::list out;
  for (Array<bool>& mask : masks) out.append(std::move(mask));
  return out;
}

Array<bool> groups(const Floats& w, int64_t n, int64_t m, const Norm& norm, int threads) {
  const ScoredTensor tensor = tensor_of(w, norm);
  check_group(n, m, tensor.x.columns);
  Array<bool> mask(shape_of(w));
  uint8_t* const bytes = bytes_of(mask);
  const py::gil_scoped_release nogil;  // raw pointers only; `w`, `norm` and `mask` hold the arrays
  ThreadPool pool(count_of_threads(threads));
  nm_mask({pool, active_isa()}, tensor, n, m, bytes);
  return mask;
}

Array<bool> blocks(const Floats& w, std::pair<int64_t, int64_t> block, int64_t kept, const Norm& norm, bool energy,
                   int threads) {
  const ScoredTensor tensor = tensor_of(w, norm);
  const BlockShape shape{block.first, block.second};
  check_block(shape, tensor);
  const int64_t count = tensor.rows / shape.rows * (tensor.x.columns / shape.columns);
  check(0 <= kept && kept <= count, "kept is ", kept, "; wanted 0 .. ", count);
  check(!energy || !norm, "norm does not go with energies");
  Array<bool> mask(shape_of(w));
  uint8_t* const bytes = bytes_of(mask);
  const py::gil_scoped_release nogil;  // raw pointers only; `w`, `norm` and `mask` hold the arrays
  ThreadPool pool(count_of_threads(threads));
  block_mask({pool, active_isa()}, tensor, energy, shape, kept, bytes);
  return mask;
}

// ---- Single kernels ----

py::tuple bins(const Floats& w, const std::string& variant, const Norm& norm, int32_t low, int shift, int bits,
               const Part& elements) {
  const ScoredTensor tensor = tensor_of(w, norm);
  check(1 <= bits && bits <= kMostBinBits && 0 <= shift && shift + bits <= kKeyBits,
        "score_bins: wanted 1 <= bits <= ", kMostBinBits, " and shift + bits <= ", kKeyBits);
  check(0 <= low && low + (int64_t{1} << (shift + bits)) <= int64_t{1} << kKeyBits, "score_bins: low is ", low,
        ", from which the bins go beyond the largest key");
  const auto [begin, end] = part_of(elements, tensor.size(), "elements");
  Array<int64_t> counts(py::ssize_t{1} << bits);
  int64_t above = 0;
  std::fill_n(counts.mutable_data(), counts.size(), 0);
  run_variant("score_bins", score_bins_table(), variant,
              ScoreBinsArgs{tensor.x, begin, end, low, shift, bits, counts.mutable_data(), &above});
  return py::make_tuple(counts, above);
}

std::pair<Bytes, int64_t> apply(const Floats& w, int32_t threshold, int64_t ties, const std::string& variant,
                                const Norm& norm, const Part& elements, const std::optional<Bytes>& out) {
  const ScoredTensor tensor = tensor_of(w, norm);
  check(threshold >= 0 && ties >= 0, "apply_mask: threshold and ties must not be negative");
  const auto [begin, end] = part_of(elements, tensor.size(), "elements");
  Bytes mask = output("apply_mask", out, shape_of(w));
  run_variant("apply_mask", apply_mask_table(), variant,
              ApplyMaskArgs{tensor.x, begin, end, threshold, &ties, mask.mutable_data()});
  return {std::move(mask), ties};
}

Floats block_energies(const Floats& w, std::pair<int64_t, int64_t> block, const std::string& variant, const Norm& norm,
                      bool energy, const Part& rows, const std::optional<Floats>& out) {
  const ScoredTensor tensor = tensor_of(w, norm);
  const BlockShape shape{block.first, block.second};
  check_block(shape, tensor);
  check(!energy || !norm, "norm does not go with energies");
  const auto [begin, end] = part_of(rows, tensor.rows, "rows");
  check(begin % shape.rows == 0 && end % shape.rows == 0, "rows must be multiples of the block's");
  Floats scores = output("block_scores", out, {tensor.rows / shape.rows, tensor.x.columns / shape.columns});
  run_variant("block_scores", block_scores_table(), variant,
              BlockScoresArgs{tensor.x, begin, end, shape.rows, shape.columns, energy, scores.mutable_data()});
  return scores;
}

Bytes nm(const Floats& w, int64_t n, int64_t m, const std::string& variant, const Norm& norm, const Part& rows,
         const std::optional<Bytes>& out) {
  const ScoredTensor tensor = tensor_of(w, norm);
  check_group(n, m, tensor.x.columns);
  const auto [begin, end] = part_of(rows, tensor.rows, "rows");
  Bytes mask = output("nm_mask", out, shape_of(w));
  run_variant("nm_mask", nm_mask_table(), variant, NmMaskArgs{tensor.x, begin, end, n, m, mask.mutable_data()});
  return mask;
}

}  // namespace

void bind_pruning_mask(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("check_scores", &check_values, no_copy("x"), "name"_a, "may_be_negative"_a, "threads"_a = 0,
        "Raise a ValueError naming `name` where x holds a NaN, an infinity or a negative value that it may not.");
  m.def("magnitude_masks", &magnitude, no_copy("w"), no_copy("norms"), "kept"_a, "threads"_a = 0,
        "Masks of the `kept` elements of largest |w| * norm in all 2-D arrays together.");
  m.def("nm_mask", &groups, no_copy("w"), "n"_a, "m"_a, no_copy("norm") = py::none(), "threads"_a = 0,
        "A mask of the n elements of largest |w| * norm in every m consecutive columns.");
  m.def("block_mask", &blocks, no_copy("w"), "block"_a, "kept"_a, no_copy("norm") = py::none(), "energy"_a = false,
        "threads"_a = 0,
        "A mask of the `kept` blocks (rows, columns) of largest energy: sum of (w * norm)^2, or of w where it is one.");
}

void bind_pruning_mask_kernels(py::module_& m) {
  using namespace py::literals;
  const auto no_copy = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("score_bins", &bins, no_copy("w"), py::kw_only(), "variant"_a, no_copy("norm") = py::none(), "low"_a = 0,
        "shift"_a = kKeyBits - kMostBinBits, "bits"_a = kMostBinBits, "elements"_a = py::none(),
        "How many scores have bits in each of 2^bits bins of 2^shift from `low` on, and how many are above.");
  m.def("apply_mask", &apply, no_copy("w"), "threshold"_a, "ties"_a, py::kw_only(), "variant"_a,
        no_copy("norm") = py::none(), "elements"_a = py::none(), no_copy("out") = py::none(),
        "A mask of the scores whose bits are above the threshold and of the first ties; and the ties left.");
  m.def("block_scores", &block_energies, no_copy("w"), "block"_a, py::kw_only(), "variant"_a,
        no_copy("norm") = py::none(), "energy"_a = false, "rows"_a = py::none(), no_copy("out") = py::none(),
        "The energy of each block (rows, columns).");
  m.def("nm_mask", &nm, no_copy("w"), "n"_a, "m"_a, py::kw_only(), "variant"_a, no_copy("norm") = py::none(),
        "rows"_a = py::none(), no_copy("out") = py::none(), "The n largest scores of every m consecutive columns.");
}

}  // namespace taille
