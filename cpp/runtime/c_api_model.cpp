#include "runtime/c_api_model.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/thread_pool.h"
#include "graph/artefact.h"
#include "graph/json.h"
#include "runtime/runner_choice.h"

namespace taille::c_api {

int32_t code_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return TAILLE_FLOAT32;
    case DType::u8:
      return TAILLE_UINT8;
    case DType::s8:
      return TAILLE_INT8;
    case DType::s32:
      return TAILLE_INT32;
    case DType::s64:
      return TAILLE_INT64;
    case DType::boolean:
      return TAILLE_BOOL;
    case DType::f16:
    case DType::bf16:
      break;  // of weights only
  }
  throw std::logic_error("an input or output of 16 bits");
}

namespace {

constexpr int64_t kNoMost = std::numeric_limits<int64_t>::max();

std::string name_of_code(int32_t code) {
  for (DType t : {DType::f32, DType::u8, DType::s8, DType::s32, DType::s64, DType::boolean})
    if (code_of(t) == code) return std::string(name_of(t));
  return concat("no dtype (", code, ")");
}

// The limits of named dimensions that Python stored beside the graph: {"limits": {"batch": [1, 64 or null]}}.
using Limits = std::map<std::string, std::pair<int64_t, int64_t>, std::less<>>;

Json parsed(const std::string& path, const std::string& metadata) {
  if (metadata.empty()) return {};
  try {
    return parse_json(metadata);
  } catch (const std::invalid_argument& error) {
    throw ArtefactError(concat(printable(path, 4096), ": the metadata is not JSON: ", error.what()));
  }
}

Limits limits_of(const std::string& path, const Json& metadata) {
  Limits out;
  auto refuse = [&](const std::string& what) { throw ArtefactError(concat(printable(path, 4096), ": ", what)); };
  const Json* limits = metadata.find("limits");
  if (limits == nullptr || limits->get_if<std::nullptr_t>()) return out;
  const auto* object = limits->get_if<Json::Object>();
  if (object == nullptr) refuse("the metadata's limits are not [least, most] by dimension");
  for (const JsonMember& member : *object) {
    const auto* pair = member.value.get_if<Json::Array>();
    if (pair == nullptr || pair->size() != 2) refuse("the metadata's limits are not [least, most] by dimension");
    auto number = [&](const Json& value, int64_t absent) {
      if (value.get_if<std::nullptr_t>()) return absent;
      const auto* integer = value.get_if<int64_t>();
      if (integer == nullptr) refuse("the metadata's limits are not [least, most] by dimension");
      return *integer;
    };
    out[member.key] = {std::max<int64_t>(1, number((*pair)[0], 1)), number((*pair)[1], kNoMost)};
  }
  return out;
}

Described described(const Value& value, const std::string& name, const Limits& limits) {
  Described out{name, value.dtype, {}, {}, {}};
  check(value.shape.size() <= TAILLE_MAX_RANK, "'", name, "' has more than ", int{TAILLE_MAX_RANK}, " dimensions");
  for (const Dim& dim : value.shape) {
    out.dims.push_back(dim.is_constant() ? dim.constant() : int64_t{TAILLE_DYNAMIC});
    out.texts.push_back(dim.text());
    const auto known = limits.find(out.texts.back());
    if (dim.is_constant())
      out.limits.emplace_back(0, kNoMost);
    else
      out.limits.push_back(known == limits.end() ? std::pair(int64_t{1}, kNoMost) : known->second);
  }
  return out;
}

// Whether the bytes [a, a + na) and [b, b + nb) share one.
bool overlap(const void* a, size_t na, const void* b, size_t nb) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return na > 0 && nb > 0 && x < y + nb && y < x + na;
}

// Throws unless the memory is there and lies as its elements must.
void check_memory(const char* kind, const std::string& name, const taille_tensor& t, DType dtype) {
  if (t.bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(t.data);
  check(t.data != nullptr, kind, " '", name, "': data is NULL");
  check(address % size_of(dtype) == 0, kind, " '", name, "': data is not aligned to ", size_of(dtype), " bytes");
  check(t.bytes <= std::numeric_limits<uintptr_t>::max() - address, kind, " '", name, "': bytes is ", t.bytes,
        ", beyond the end of memory");
}

InputArray checked_input(const Described& wanted, const taille_tensor& t, bool with_data) {
  const std::string& name = wanted.name;
  if (t.dtype != code_of(wanted.dtype))
    throw TypeError(concat("input '", name, "' is ", name_of_code(t.dtype), "; wanted ", name_of(wanted.dtype)));
  check(t.rank >= 0 && t.rank <= TAILLE_MAX_RANK, "input '", name, "': rank is ", t.rank, "; wanted ",
        wanted.dims.size());
  InputArray array{t.data, wanted.dtype, Dims(t.dims, t.dims + t.rank)};
  uint64_t bytes = size_of(wanted.dtype);
  for (size_t d = 0; d < array.dims.size(); ++d) {
    const int64_t size = array.dims[d];
    const auto [least, most] = d < wanted.limits.size() ? wanted.limits[d] : std::pair(int64_t{0}, kNoMost);
    check(size >= least, "input '", name, "': dimension ", d, " is ", size, "; wanted at least ", least);
    check(size <= most, "input '", name, "': dimension ", d, " is ", size, "; wanted at most ", most);
    check(!__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes), "input '", name, "' is too large");
  }
  if (!with_data) return array;
  check(t.bytes == bytes, "input '", name, "': bytes is ", t.bytes, "; its dims are ", bytes, " bytes");
  check_memory("input", name, t, wanted.dtype);
  return array;
}

}  // namespace

Handles<OpenModel>& open_models() {
  static auto& handles = *new Handles<OpenModel>;
  return handles;
}

OpenModel::OpenModel(const std::string& path, int threads) {
  Artefact artefact = load_artefact(path);
  const Json metadata = parsed(path, artefact.metadata);
  const Limits limits = limits_of(path, metadata);
  const Graph& g = artefact.graph;
  for (ValueId i : g.inputs) inputs.push_back(described(g.value(i), g.value(i).name, limits));
  for (size_t i = 0; i < g.outputs.size(); ++i)
    outputs.push_back(described(g.value(g.outputs[i]), g.output_names[i], limits));
  model = std::make_shared<Model>(std::move(artefact.graph), threads, active_isa());
  // What another number of threads was asked for is still good for batches and waits.
  const int all = threads == 0 ? model->threads() : granted_threads().threads;
  if (std::optional<BatcherOptions> choice = stored_choice(metadata, all)) {
    if (threads != 0) {
      choice->streams = 1;
      choice->threads = 0;
    }
    runner_defaults_ = *choice;
  }
}

std::vector<InputArray> OpenModel::arrays(const taille_tensor* given, size_t count, bool with_data) const {
  check(count == inputs.size(), "the model takes ", inputs.size(), " inputs; ", count, " were given");
  check(given != nullptr || count == 0, "inputs is NULL");
  std::vector<InputArray> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(checked_input(inputs[i], given[i], with_data));
  return out;
}

std::vector<taille_tensor> OpenModel::shapes(const Plan& plan) const {
  std::vector<taille_tensor> out;
  out.reserve(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Dims& dims = plan.dims[static_cast<size_t>(model->graph().outputs[i])];
    taille_tensor t{};
    t.dtype = code_of(outputs[i].dtype);
    t.rank = static_cast<int32_t>(dims.size());
    t.bytes = size_of(outputs[i].dtype);
    for (size_t d = 0; d < dims.size(); ++d) {
      t.dims[d] = dims[d];
      t.bytes *= static_cast<size_t>(dims[d]);  // the plan has seen that it does not overflow
    }
    out.push_back(t);
  }
  return out;
}

void OpenModel::check_outputs(std::span<const InputArray> in, std::span<const taille_tensor> shapes,
                              const taille_tensor* given, size_t count) const {
  check(count == outputs.size(), "the model has ", outputs.size(), " outputs; ", count, " were given");
  check(given != nullptr || count == 0, "outputs is NULL");
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = outputs[i].name;
    check(given[i].bytes >= shapes[i].bytes, "output '", name, "': bytes is ", given[i].bytes, "; ", shapes[i].bytes,
          " are needed");
    check_memory("output", name, given[i], outputs[i].dtype);
    for (size_t j = 0; j < in.size(); ++j)
      check(!overlap(given[i].data, shapes[i].bytes, in[j].data, static_cast<size_t>(in[j].bytes())), "output '", name,
            "' shares memory with input '", inputs[j].name, "'");
    for (size_t j = 0; j < i; ++j)
      check(!overlap(given[i].data, shapes[i].bytes, given[j].data, shapes[j].bytes), "output '", name,
            "' shares memory with output '", outputs[j].name, "'");
  }
}

int64_t OpenModel::most_samples() const {
  int64_t most = kNoMost;
  for (const Described& input : inputs)
    if (!input.limits.empty()) most = std::min(most, input.limits.front().second);
  return most;
}

void copy_shapes(std::span<const taille_tensor> shapes, taille_tensor* outputs, bool with_bytes) {
  for (size_t i = 0; i < shapes.size(); ++i) {
    outputs[i].dtype = shapes[i].dtype;
    outputs[i].rank = shapes[i].rank;
    std::copy(std::begin(shapes[i].dims), std::end(shapes[i].dims), outputs[i].dims);
    if (with_bytes) outputs[i].bytes = shapes[i].bytes;
  }
}

}  // namespace taille::c_api
