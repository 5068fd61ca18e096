// The container around the graph: safetensors header, tensor table, checksum. artefact.cpp has the specification.
#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "base/error.h"
#include "graph/artefact_format.h"
#include "graph/json.h"
#include "graph/ops.h"

namespace taille::artefact {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kFormatKey = "taille.format";
constexpr std::string_view kGraphKey = "taille.graph";
constexpr std::string_view kChecksumKey = "taille.crc32c";
constexpr std::string_view kOwnKey = "taille.metadata";

std::string hex8(uint32_t number) {
  std::string out(8, '0');
  for (size_t i = 8; i-- > 0; number >>= 4) out[i] = "0123456789abcdef"[number & 15];
  return out;
}

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::span<const uint8_t> bytes_of(const Tensor& tensor) { return {tensor.data.data(), tensor.data.size()}; }

// A tensor as the header's table has it.
struct Entry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> dims;
  int64_t begin = 0, end = 0;
  TensorPtr tensor;
};

struct Header {
  std::string graph, checksum, metadata;
  int64_t format = 1;
  std::vector<Entry> entries;  // in the order of the file
};

// What a file is that is not safetensors, as far as its first bytes tell.
std::string guess(std::string_view start) {
  constexpr std::pair<std::string_view, const char*> kKnown[] = {
      {"\x89PNG", "a PNG image"},
      {"\xff\xd8\xff", "a JPEG image"},
      {std::string_view("PK\x03\x04", 4), "a zip archive, perhaps a PyTorch .pt file"},
      {"\x80\x02", "a Python pickle"},
      {"\x80\x04", "a Python pickle"},
      {"\x1f\x8b", "gzip data"},
      {"GGUF", "a GGUF model"},
      {"\x7f"
       "ELF",
       "a program or library"},
      {"version ", "perhaps a Git LFS pointer (git lfs pull fetches the file)"},
  };
  for (const auto& [magic, what] : kKnown)
    if (start.starts_with(magic)) return concat(" (it looks like ", what, ")");
  return "";
}

// The header's text; what follows in the file is the data section.
std::string read_header(uint64_t size, const ReadBytes& read) {
  check(size > 0, "the file is empty");
  uint8_t start[kLengthBytes + 1] = {};
  const size_t known = std::min<uint64_t>(size, sizeof start);
  read({start, known});
  const std::string_view text(reinterpret_cast<const char*>(start), known);
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t{start[i]} << (8 * i);
  const bool plausible = known == sizeof start && start[kLengthBytes] == '{' && length >= 2 && length <= kMaxHeader;
  check(plausible, "not a taille artefact", guess(text));
  check(length <= size - kLengthBytes, "truncated: its header has ", length, " bytes, the whole file ", size);
  std::string header(length, '{');
  read({reinterpret_cast<uint8_t*>(header.data()) + 1, static_cast<size_t>(length - 1)});
  return header;
}

const std::string& string_member(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  check(found != nullptr, "damaged: \"", key, "\" is missing");
  const auto* text = found->get_if<std::string>();
  check(text != nullptr, "damaged: \"", key, "\" is not a string");
  return *text;
}

int64_t checked_format(const Json& metadata) {
  const std::string& text = string_member(metadata, kFormatKey);
  int64_t format = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), format);
  check(error == std::errc() && end == text.data() + text.size() && format >= 1 && text == std::to_string(format),
        "the format version '", printable(text), "' is unknown: the file is damaged");
  check(format <= kFormat, "the file has format version ", format, ", this taille reads up to version ", kFormat,
        "; it was probably saved by a newer taille: upgrade taille here, or save the model again with this version");
  return format;
}

std::vector<int64_t> integers(const Json& entry, std::string_view key) {
  const Json* found = entry.find(key);
  const auto* items = found == nullptr ? nullptr : found->get_if<Json::Array>();
  check(items != nullptr, "has no list \"", key, "\"");
  std::vector<int64_t> out;
  for (const Json& item : *items) {
    const auto* integer = item.get_if<int64_t>();
    check(integer != nullptr, "has something other than integers in \"", key, "\"");
    out.push_back(*integer);
  }
  return out;
}

Entry read_entry(const JsonMember& member) {
  Entry e;
  e.name = member.key;
  const Json* dtype = member.value.find("dtype");
  const auto* stored = dtype == nullptr ? nullptr : dtype->get_if<std::string>();
  check(stored != nullptr, "has no \"dtype\"");
  check(member.value.get_if<Json::Object>()->size() == 3, "has more than dtype, shape and data_offsets");
  e.dtype = dtype_from_stored(*stored);
  e.dims = integers(member.value, "shape");
  const std::vector<int64_t> offsets = integers(member.value, "data_offsets");
  check(offsets.size() == 2 && offsets[0] >= 0 && offsets[1] >= offsets[0], "has offsets that are no range");
  e.begin = offsets[0];
  e.end = offsets[1];
  const auto bytes = static_cast<int64_t>(checked_bytes(e.dtype, e.dims));
  check(bytes == e.end - e.begin, "needs ", bytes, " bytes by its shape, but its offsets span ", e.end - e.begin);
  return e;
}

// Entries one after the other from byte 0 to the file's end: so they neither overlap nor leave holes nor reach
// beyond, and what is allocated for them is there to be read.
void check_layout(std::vector<Entry>& entries, uint64_t data_bytes) {
  std::ranges::sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  int64_t at = 0;
  for (const Entry& e : entries) {
    check(e.begin == at, "the tensor '", printable(e.name), "' starts at byte ", e.begin, " of the data; wanted ", at);
    at = e.end;
  }
  const auto wanted = static_cast<uint64_t>(at);
  check(wanted <= data_bytes, "truncated: its tensors have ", wanted, " bytes, of which ", data_bytes, " are there");
  check(wanted >= data_bytes, "damaged: its tensors end ", data_bytes - wanted, " byte(s) before the file does");
}

Header parse_header(std::string_view text, uint64_t data_bytes) {
  const Json root = parse_json(text);
  const Json* metadata = root.find(kMetadata);
  check(metadata != nullptr && metadata->find(kFormatKey) != nullptr,
        "a safetensors file, but not a taille artefact: it has tensors and no graph (\"", kFormatKey, "\" is missing)");
  const int64_t format = checked_format(*metadata);
  for (const JsonMember& m : *metadata->get_if<Json::Object>()) {
    check(m.value.get_if<std::string>() != nullptr, "damaged: metadata \"", printable(m.key), "\" is not a string");
    const bool known = m.key == kFormatKey || m.key == kGraphKey || m.key == kChecksumKey || m.key == kOwnKey;
    check(known, "damaged: unknown metadata \"", printable(m.key), "\"");
  }
  Header header{string_member(*metadata, kGraphKey), string_member(*metadata, kChecksumKey), "", format, {}};
  if (metadata->find(kOwnKey) != nullptr) header.metadata = string_member(*metadata, kOwnKey);
  for (const JsonMember& m : *root.get_if<Json::Object>()) {
    if (m.key == kMetadata) continue;
    try {
      header.entries.push_back(read_entry(m));
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument(concat("the tensor '", printable(m.key), "' ", e.what()));
    }
  }
  check_layout(header.entries, data_bytes);
  return header;
}

Artefact read_checked(uint64_t size, const ReadBytes& read) {
  const std::string text = read_header(size, read);
  Header header = parse_header(text, size - kLengthBytes - text.size());
  uint32_t crc = crc32c(bytes_of(header.graph));
  TensorsByName tensors;
  for (Entry& e : header.entries) {
    auto tensor = std::make_shared<Tensor>(e.dtype, e.dims);
    read({tensor->data.data(), tensor->data.size()});
    crc = crc32c(bytes_of(*tensor), crc);
    tensors[e.name] = std::move(tensor);
  }
  check(hex8(crc) == header.checksum, "damaged: its checksum is ", hex8(crc), ", the file says ",
        printable(header.checksum));
  BlockRows block_rows;
  Graph graph = graph_from_json(header.graph, std::move(tensors), block_rows);
  check_storable(graph);
  for (Node& node : graph.nodes) infer(graph, node);  // fills in what the file leaves at its default
  graph.validate();
  // Neither format nor table is under the checksum; they must be the ones that the graph determines.
  const int64_t format = format_of(graph, block_rows);
  check(header.format == format, "damaged: it says format version ", header.format, ", its graph is version ", format);
  int64_t at = 0;
  std::map<std::string_view, const Entry*> entries;
  for (const Entry& e : header.entries) entries[e.name] = &e;
  for (ValueId id : tensor_order(graph, block_rows)) {
    const Entry& e = *entries.at(graph.value(id).name);  // the graph took a tensor of this name
    check(e.begin == at, "the tensor '", printable(e.name), "' is not where the graph wants it");
    at = e.end;
  }
  return {std::move(graph), std::move(header.metadata)};
}

}  // namespace

std::string file_head(const Graph& graph, const std::vector<StoredTensor>& stored, const std::string& metadata) {
  check_storable(graph);
  graph.validate();
  const std::string text = graph_to_json(graph, stored);
  uint32_t crc = crc32c(bytes_of(text));
  for (const StoredTensor& s : stored) crc = crc32c(bytes_of(*s.tensor), crc);

  JsonWriter out;
  const auto entry = [&](std::string_view key, std::string_view value) {
    out.key(key);
    out.string(value);
  };
  out.begin_object();
  out.key(kMetadata);
  out.begin_object();
  entry(kFormatKey, std::to_string(format_of(graph, block_rows_of(graph, stored))));
  entry(kGraphKey, text);
  entry(kChecksumKey, hex8(crc));
  if (!metadata.empty()) entry(kOwnKey, metadata);
  out.end_object();
  int64_t at = 0;
  for (const StoredTensor& s : stored) {
    const Tensor& tensor = *s.tensor;
    out.key(graph.value(s.id).name);
    out.begin_object();
    entry("dtype", stored_name(tensor.dtype));
    out.key("shape");
    out.begin_array();
    for (int64_t d : tensor.dims) out.integer(d);
    out.end_array();
    out.key("data_offsets");
    out.begin_array();
    out.integer(at);
    at += static_cast<int64_t>(tensor.data.size());
    out.integer(at);
    out.end_array();
    out.end_object();
  }
  out.end_object();

  std::string header = out.text();
  header.resize((kLengthBytes + header.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  check(header.size() <= kMaxHeader, "the graph and its metadata need a header of ", header.size(), " bytes; at most ",
        kMaxHeader, " can be stored");
  std::string head(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) head[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return head + header;
}

Artefact read_artefact(uint64_t size, const std::string& name, const ReadBytes& read) {
  std::string what;
  try {
    return read_checked(size, read);
  } catch (const std::invalid_argument& e) {
    what = e.what();
  } catch (const TypeError& e) {
    what = e.what();
  }
  // What is in the file may be quoted in the message: names of any length, control characters.
  throw ArtefactError(concat(printable(name, 4096), ": ", printable(what, 1024)));
}

}  // namespace taille::artefact
