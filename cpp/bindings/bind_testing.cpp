// _native.testing: parts that have no public name but are tested by themselves.
#include <algorithm>

#include "bindings/bindings.h"
#include "graph/optimize.h"
#include "runtime/model.h"
#include "runtime/partition.h"

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
  m.def("place_blocks", &place, py::arg("blocks"), "Offsets and total for (bytes, first step, last step) blocks.");
}

}  // namespace taille
