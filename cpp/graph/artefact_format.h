// Inside of the artefact: limits and names of the format, and the steps that its files share.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/artefact.h"

namespace taille::artefact {

inline constexpr int64_t kFormat = 6;                    // the newest that is read
inline constexpr size_t kAlignment = 64;                 // of the data section in the file
inline constexpr size_t kMaxHeader = size_t{64} << 20;   // safetensors itself stops at 100 MB
inline constexpr size_t kMaxValues = size_t{1} << 18;    // a hundred times the largest model we know of
inline constexpr size_t kMaxPorts = 4096;                // graph inputs, and graph outputs
inline constexpr size_t kMaxSymbols = 256;               // dynamic dimensions
inline constexpr size_t kMaxRank = 8;                    // as ops.h
inline constexpr size_t kMaxName = 4096;                 // bytes of a name
inline constexpr int64_t kMaxExtent = int64_t{1} << 45;  // of a dimension; bytes of a tensor

std::string_view stored_name(DType type);                            // "F32"
DType dtype_from_stored(std::string_view name);                      // throws std::invalid_argument
size_t checked_bytes(DType type, const std::vector<int64_t>& dims);  // throws std::invalid_argument

// For each value, how many outputs the blocks have that it is stored in; 0: it is stored whole, or no constant.
using BlockRows = std::vector<int64_t>;

// The oldest format that can hold the graph; that is the one it is written in.
int64_t format_of(const Graph& graph, const BlockRows& block_rows);

// The constants as they follow each other in the file: wide elements first (so that each is aligned), then by id.
std::vector<ValueId> tensor_order(const Graph& graph, const BlockRows& block_rows);

bool may_have_blocks(DType type);                           // int8, float32, float16, bfloat16
TensorPtr pack_blocks(const Tensor& tensor, int64_t rows);  // uint8 [bytes]
// Throws std::invalid_argument. The result has at most 128 times the bytes of what it is made of, for each byte of an
// element.
TensorPtr unpack_blocks(const Tensor& packed, DType type, const std::vector<int64_t>& dims, int64_t rows);

// A constant as it is in the file.
struct StoredTensor {
  ValueId id;
  TensorPtr tensor;
  int64_t block_rows;  // 0: whole
};
// In the order of the file.
std::vector<StoredTensor> stored_tensors(const Graph& graph);
BlockRows block_rows_of(const Graph& graph, const std::vector<StoredTensor>& stored);

// What the format asks of a graph beyond Graph::validate; the writer and the loader both call it. Throws
// std::invalid_argument.
void check_storable(const Graph& graph);

std::string graph_to_json(const Graph& graph, const std::vector<StoredTensor>& stored);
using TensorsByName = std::map<std::string, TensorPtr, std::less<>>;
// Takes from `tensors` what the graph names; every one must be taken. Throws std::invalid_argument.
Graph graph_from_json(std::string_view text, TensorsByName tensors, BlockRows& block_rows);

// Everything before the tensors' data.
std::string file_head(const Graph& graph, const std::vector<StoredTensor>& stored, const std::string& metadata);

// The loader proper: `read` gives the file's bytes one after the other and throws ArtefactError where they run out.
using ReadBytes = std::function<void(std::span<uint8_t>)>;
Artefact read_artefact(uint64_t size, const std::string& name, const ReadBytes& read);

}  // namespace taille::artefact
