// _native.testing: parts that have no public name but are tested by themselves.
#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "base/hash64.h"
#include "bindings/bindings.h"
#include "graph/optimize.h"
#include "runtime/model.h"
#include "runtime/partition.h"
#include "runtime/response_cache.h"

namespace taille {

namespace {

Graph run_pass(const Graph& graph, const std::string& name) {
  for (const Pass& p : passes())
    if (name == p.name) return p.run(graph, evaluate_node);
  throw std::invalid_argument(concat("no pass is named '", name, "'"));
}

py::tuple place(const std::vector<std::tuple<int64_t, int32_t, int32_t>>& given) {
  std::vector<Block> blocks;
  for (const auto& [bytes, first, last] : given) blocks.push_back({bytes, first, last, 0});
  const int64_t total = place_blocks(blocks);
  std::vector<int64_t> offsets;
  for (const Block& b : blocks) offsets.push_back(b.offset);
  return py::make_tuple(offsets, total);
}

std::span<const uint8_t> bytes_of_text(const py::bytes& text) {
  const auto view = static_cast<std::string_view>(text);
  return {reinterpret_cast<const uint8_t*>(view.data()), view.size()};
}

// What the cache answers to one input of bytes, where `compute(bytes) -> bytes` is the model.
py::bytes answer_from(ResponseCache& cache, uint64_t model, const py::bytes& given, int64_t output_bytes,
                      const py::function& compute) {
  check(output_bytes >= 0, "answer_from: output_bytes is ", output_bytes);
  const auto input = bytes_of_text(given);
  const auto count = static_cast<int64_t>(input.size());
  std::string out(static_cast<size_t>(output_bytes), '\0');
  const InputArray array{input.data(), DType::u8, {count}};
  const OutputArray output{out.data(), output_bytes};
  const auto run = [&](std::span<const void* const> from, std::span<void* const> to) {
    py::gil_scoped_acquire gil;
    const auto result =
        compute(py::bytes(static_cast<const char*>(from[0]), static_cast<size_t>(count))).cast<std::string>();
    check(static_cast<int64_t>(result.size()) == output_bytes, "answer_from: compute gave ", result.size(), " bytes");
    if (output_bytes > 0) std::memcpy(to[0], result.data(), result.size());
  };
  {
    py::gil_scoped_release nogil;  // `given` is held by the caller; `run` takes the GIL where it needs it
    cache.answer(model, {&array, 1}, {&output, 1}, run);
  }
  return out;
}

}  // namespace

void bind_testing(py::module_& m) {
  m.def(
      "dim_text", [](const std::string& text) { return Dim::parse(text).text(); }, py::arg("text"),
      "The normal form of a dimension.");
  m.def(
      "dim_evaluate",
      [](const std::string& text, const std::map<std::string, int64_t>& values) {
        return Dim::parse(text).evaluate(SymbolValues(values.begin(), values.end()));
      },
      py::arg("text"), py::arg("values"));
  m.def(
      "dim_quotient",
      [](const std::string& a, const std::string& b) -> std::optional<std::string> {
        const auto q = Dim::parse(a).exact_quotient(Dim::parse(b));
        return q ? std::optional(q->text()) : std::nullopt;
      },
      py::arg("numerator"), py::arg("divisor"));
  m.def("run_pass", &run_pass, py::arg("graph"), py::arg("name"));
  m.def(
      "runs_of_equal_work",
      [](const std::vector<int64_t>& work, int64_t grain, int64_t n, int parts) {
        return runs_of_equal_work(work, grain, n, parts);
      },
      py::arg("work"), py::arg("grain"), py::arg("n"), py::arg("parts"), "First elements of the runs, and n.");
  m.def(
      "hash64", [](const py::bytes& bytes, uint64_t seed) { return hash64(bytes_of_text(bytes), seed); },
      py::arg("data"), py::arg("seed") = 0);
  m.def("answer_from", &answer_from, py::arg("cache"), py::arg("model"), py::arg("inputs"), py::arg("output_bytes"),
        py::arg("compute"), "ResponseCache::answer with a Python function as the model.");
  m.def("place_blocks", &place, py::arg("blocks"), "Offsets and total for (bytes, first step, last step) blocks.");
}

}  // namespace taille
