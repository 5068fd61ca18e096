// The artefact's format, versions 1 to 6. A graph with a constant of floats stored in blocks is version 6, else one
// with an int8 constant stored so version 5, else one with an rms_norm, or a layer_norm that writes uint8, version 4,
// else one with an embedding on an int8 table version 3, else one with a float16 or bfloat16 value version 2, any other
// version 1.
//
// FILE    8 bytes    length n of the header, little-endian
//         n bytes    the header: a JSON object, padded with spaces so that 8 + n is a multiple of 64
//         the rest   the tensors' data, little-endian, row-major, without holes, the last byte is the file's last
//   This is safetensors. The header maps each tensor's name to {"dtype": .., "shape": [..], "data_offsets": [a, b]},
//   offsets counted from the end of the header; dtypes are F32 U8 I8 I32 I64 BOOL, from
//   version 2 on F16 BF16 too. A BOOL byte is 0 or 1.
//   Tensors lie in the order of tensor_order(): elements of 8 bytes first, then 4, 2, 1 (blocks are bytes), else by
//   value id; so each is aligned to its elements. "__metadata__" maps strings to strings and holds what artefact.h
//   lists, nothing else.
//
// GRAPH   {"values": [VALUE..], "nodes": [NODE..], "inputs": [ID..], "outputs": [ID..], "output_names": [STRING..],
//          "output_structure": "single" | "tuple" | "dict"}                          no other members, here or below
//   VALUE {"name": STRING, "dtype": "float32" | "uint8" | "int8" | "int32" | "int64" | "bool" | "float16" | "bfloat16",
//          "shape": DIMS, "quant": [SCALE, ZERO], "constant": true, "blocks": ROWS}
//         quant only for uint8, absent where there is none; SCALE a float32 > 0, ZERO in 0 .. 255.
//         constant only where it is one: then the tensor of this name has this dtype and shape; or, with blocks (1, 2
//         or 4; int8 and, from version 6 on, float32, float16, bfloat16), it is U8 [bytes] and holds the blocks of ROWS
//         outputs (dimension 0) x 4 inputs (the other dimensions, flattened) whose bytes are not all zero: first a map,
//         bit i % 8 of byte i / 8 for block i, blocks row by row, zeros up to a whole byte; then ROWS x 4 elements of
//         each block that is there. The writer takes the ROWS of fewest bytes, the larger of equals, if these are below
//         90 % of the plain ones.
//   NODE  {"op": STRING, "name": STRING, "source": STRING, "inputs": [ID..], "output": ID, "attrs": {KEY: ATTR..}}
//         source and attrs are absent where empty. What each op takes is in ops.h; an attribute that
//         is absent has its default there, and the writer leaves out all that have.
//   ID    the index of a value, or -1 for an input that is not there. Nodes are in topological order.
//   DIMS  [DIM..], at most 8; DIM is an integer or the text of a polynomial (dim.h)
//   ATTR  ["B", bool] ["I", integer] ["F", REAL] ["S", string] ["L", [integer..]] ["D", DIMS]
//   REAL  a number, or "inf", "-inf", "nan"; in as many digits as give the double back
//   Names of constants are unique and none is "__metadata__"; names of inputs and those of outputs are unique and not
//   empty; no string holds control characters. Limits: artefact_format.h.
//
// CHECKSUM  CRC-32C (base/crc32c.h) of the graph text as UTF-8 (without JSON's escapes), continued over the data
//   section. The rest of the header is determined by these, so a flipped bit shows anywhere but in "taille.metadata".
//
// VERSIONS  A reader refuses what it does not know, so any addition is a new version; old ones stay readable. An op may
//   gain an attribute whose default is what the op did before: graphs that hold nothing else keep their version.
#include "graph/artefact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "base/error.h"
#include "graph/artefact_format.h"
#include "graph/json.h"

namespace taille {
namespace artefact {

static_assert(std::endian::native == std::endian::little, "tensors are stored as they lie in memory");

namespace {

constexpr std::pair<DType, std::string_view> kStoredNames[] = {
    {DType::f32, "F32"}, {DType::u8, "U8"},        {DType::s8, "I8"},   {DType::s32, "I32"},
    {DType::s64, "I64"}, {DType::boolean, "BOOL"}, {DType::f16, "F16"}, {DType::bf16, "BF16"}};

void check_text(std::string_view text, const char* what) {
  check(text.size() <= kMaxName, what, " '", printable(text), "' is longer than ", kMaxName, " bytes");
  // printable() replaces control characters and bad UTF-8, and cuts nothing at this length.
  check(printable(text, kMaxName) == text, what, " '", printable(text), "' holds a control character or is not UTF-8");
}

void check_unique(std::set<std::string_view>& seen, std::string_view name, const char* what) {
  check(!name.empty(), what, " has no name");
  check(seen.insert(name).second, what, " '", printable(name), "' is there twice");
}

void check_constant(const Value& v) {
  const Tensor& t = *v.constant;
  check(v.name != "__metadata__", "a constant cannot be named '__metadata__'");
  check(t.dtype == v.dtype && v.shape == Shape(t.dims.begin(), t.dims.end()), "the tensor '", printable(v.name),
        "' is ", name_of(t.dtype), " ", text_of(Shape(t.dims.begin(), t.dims.end())), " but the graph says ",
        name_of(v.dtype), " ", printable(text_of(v.shape)));
  check(checked_bytes(t.dtype, t.dims) == t.data.size(), "the tensor '", printable(v.name), "' has the wrong size");
  if (t.dtype != DType::boolean) return;
  const uint8_t* bytes = t.data.data();
  check(std::all_of(bytes, bytes + t.data.size(), [](uint8_t b) { return b <= 1; }), "the bool tensor '",
        printable(v.name), "' holds a byte other than 0 and 1");
}

void check_value(const Value& v, std::set<std::string>& symbols) {
  check_text(v.name, "the value name");
  check(v.shape.size() <= kMaxRank, "the value '", v.name, "' has more than ", kMaxRank, " dimensions");
  for (const Dim& d : v.shape) {
    check(!d.is_constant() || (d.constant() >= 0 && d.constant() <= kMaxExtent), "the value '", v.name,
          "' has the dimension ", d.text());
    for (std::string& s : d.symbols()) symbols.insert(std::move(s));
    check(symbols.size() <= kMaxSymbols, "the graph has more than ", kMaxSymbols, " symbols");
  }
  if (!v.quant) return;
  check(v.dtype == DType::u8, "the value '", v.name, "' is ", name_of(v.dtype), " and has a scale");
  check(std::isfinite(v.quant->scale) && v.quant->scale > 0, "the value '", v.name, "' has the scale ", v.quant->scale);
  check(v.quant->zero_point >= 0 && v.quant->zero_point <= 255, "the value '", v.name, "' has the zero point ",
        v.quant->zero_point);
}

}  // namespace

std::string_view stored_name(DType type) {
  return std::ranges::find(kStoredNames, type, [](const auto& pair) { return pair.first; })->second;
}

DType dtype_from_stored(std::string_view name) {
  for (const auto& [type, stored] : kStoredNames)
    if (stored == name) return type;
  throw std::invalid_argument(concat("has the dtype '", printable(name), "', which taille does not store"));
}

size_t checked_bytes(DType type, const std::vector<int64_t>& dims) {
  check(dims.size() <= kMaxRank, "has more than ", kMaxRank, " dimensions");
  // Bounded as if no dimension were 0, so that no order of multiplication overflows, here or elsewhere.
  int64_t bound = static_cast<int64_t>(size_of(type));
  int64_t bytes = bound;
  for (int64_t d : dims) {
    check(d >= 0, "has the dimension ", d);
    check(!__builtin_mul_overflow(bound, std::max<int64_t>(d, 1), &bound) && bound <= kMaxExtent, "is too large");
    bytes *= d;
  }
  return static_cast<size_t>(bytes);
}

int64_t format_of(const Graph& graph, const BlockRows& block_rows) {
  bool blocks = false;
  for (size_t v = 0; v < block_rows.size(); ++v) {
    if (block_rows[v] == 0) continue;
    if (graph.values[v].dtype != DType::s8) return 6;
    blocks = true;
  }
  if (blocks) return 5;
  const auto new_norm = [&](const Node& n) {
    return n.op == "rms_norm" || (n.op == "layer_norm" && graph.value(n.output).dtype == DType::u8);
  };
  const auto int8_table = [&](const Node& n) {
    return n.op == "embedding" && graph.value(n.inputs[0]).dtype == DType::s8;
  };
  if (std::ranges::any_of(graph.nodes, new_norm)) return 4;
  if (std::ranges::any_of(graph.nodes, int8_table)) return 3;
  return std::ranges::any_of(graph.values, [](const Value& v) { return is_half(v.dtype); }) ? 2 : 1;
}

std::vector<ValueId> tensor_order(const Graph& graph, const BlockRows& block_rows) {
  std::vector<ValueId> order;
  for (size_t v = 0; v < graph.values.size(); ++v)
    if (graph.values[v].constant) order.push_back(static_cast<ValueId>(v));
  std::ranges::stable_sort(order, std::greater<>(), [&](ValueId id) {
    return block_rows[static_cast<size_t>(id)] > 0 ? 1 : size_of(graph.value(id).dtype);
  });
  return order;
}

void check_storable(const Graph& graph) {
  check(graph.values.size() <= kMaxValues, "the graph has more than ", kMaxValues, " values");
  check(graph.inputs.size() <= kMaxPorts && graph.outputs.size() <= kMaxPorts, "the graph has more than ", kMaxPorts,
        " inputs or outputs");
  std::set<std::string> symbols;
  std::set<std::string_view> constants, inputs, outputs;
  for (const Value& v : graph.values) {
    check_value(v, symbols);
    if (!v.constant) continue;
    check_unique(constants, v.name, "a constant");
    check_constant(v);
  }
  for (ValueId i : graph.inputs) {
    check(i >= 0 && static_cast<size_t>(i) < graph.values.size(), "the graph has no value ", i);
    check_unique(inputs, graph.value(i).name, "a graph input");
  }
  for (const std::string& name : graph.output_names) {
    check_text(name, "the output name");
    check_unique(outputs, name, "a graph output");
  }
  for (const Node& node : graph.nodes) {
    check_text(node.op, "the op");
    check_text(node.name, "the node name");
    check_text(node.source, "the source");
    for (const auto& [key, attr] : node.attrs)
      if (const auto* text = std::get_if<std::string>(&attr)) check_text(*text, "the attribute");
  }
  const std::string& structure = graph.output_structure;
  check(structure == "single" || structure == "tuple" || structure == "dict", "the output structure '",
        printable(structure), "' is unknown");
}

}  // namespace artefact

std::string serialize(const Graph& graph, const std::string& metadata) {
  const std::vector<artefact::StoredTensor> stored = artefact::stored_tensors(graph);
  std::string out = artefact::file_head(graph, stored, metadata);
  size_t total = out.size();
  for (const auto& s : stored) total += s.tensor->data.size();
  out.reserve(total);
  for (const auto& s : stored)
    if (s.tensor->data.size() > 0) out.append(s.tensor->data.data<char>(), s.tensor->data.size());
  return out;
}

Artefact deserialize(std::span<const uint8_t> bytes, const std::string& name) {
  return artefact::read_artefact(bytes.size(), name, [&](std::span<uint8_t> to) {
    if (to.size() > bytes.size()) throw ArtefactError(concat(printable(name, 4096), ": ends too early"));
    if (!to.empty()) std::memcpy(to.data(), bytes.data(), to.size());
    bytes = bytes.subspan(to.size());
  });
}

}  // namespace taille
