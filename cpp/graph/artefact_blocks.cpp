// Constants by the blocks of them that are not zero. artefact.cpp has the specification.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "graph/artefact_format.h"

namespace taille::artefact {

namespace {

constexpr int64_t kInputs = 4;           // of a block
constexpr int64_t kForms[] = {4, 2, 1};  // outputs of a block
constexpr double kWorthIt = 0.9;         // of the plain bytes, at most

// A tensor as rows of outputs.
struct Matrix {
  int64_t n, k, element;  // bytes of an element
  int64_t row_bytes() const { return k * element; }
  int64_t blocks(int64_t rows) const { return n / rows * (k / kInputs); }
  int64_t map_bytes(int64_t rows) const { return (blocks(rows) + 7) / 8; }
  int64_t part_bytes() const { return kInputs * element; }  // of a block, in one row
};

Matrix matrix_of(DType type, const std::vector<int64_t>& dims) {
  const auto element = static_cast<int64_t>(size_of(type));
  if (dims.size() < 2 || dims[0] == 0) return {0, 0, element};
  int64_t k = 1;
  for (size_t i = 1; i < dims.size(); ++i) k *= dims[i];
  return {dims[0], k, element};
}

bool divides(const Matrix& m, int64_t rows) { return m.n > 0 && m.k > 0 && m.n % rows == 0 && m.k % kInputs == 0; }

// f(index of the block, its first byte) in the order of the file: a row of blocks after the other.
template <class T, class F>
void for_blocks(const Matrix& m, int64_t rows, T* data, const F& f) {
  int64_t index = 0;
  for (int64_t j = 0; j < m.n; j += rows)
    for (int64_t p = 0; p < m.row_bytes(); p += m.part_bytes()) f(index++, data + j * m.row_bytes() + p);
}

bool is_zero(const Matrix& m, int64_t rows, const uint8_t* block) {
  constexpr uint8_t kZeros[kInputs * sizeof(float)] = {};
  for (int64_t r = 0; r < rows; ++r)
    if (std::memcmp(block + r * m.row_bytes(), kZeros, static_cast<size_t>(m.part_bytes())) != 0) return false;
  return true;
}

// 0: the tensor is stored whole.
int64_t smallest_form(const Tensor& tensor) {
  const Matrix m = matrix_of(tensor.dtype, tensor.dims);
  if (!may_have_blocks(tensor.dtype)) return 0;
  auto least = static_cast<int64_t>(kWorthIt * static_cast<double>(m.n * m.row_bytes()));
  int64_t best = 0;
  for (const int64_t rows : kForms) {
    if (!divides(m, rows)) continue;
    int64_t bytes = m.map_bytes(rows);
    for_blocks(m, rows, tensor.data.data(),
               [&](int64_t, const uint8_t* block) { bytes += is_zero(m, rows, block) ? 0 : rows * m.part_bytes(); });
    if (bytes >= least) continue;
    least = bytes;
    best = rows;
  }
  return best;
}

}  // namespace

bool may_have_blocks(DType type) { return type == DType::s8 || type == DType::f32 || is_half(type); }

TensorPtr pack_blocks(const Tensor& tensor, int64_t rows) {
  const Matrix m = matrix_of(tensor.dtype, tensor.dims);
  std::vector<uint8_t> out(static_cast<size_t>(m.map_bytes(rows)), 0);
  for_blocks(m, rows, tensor.data.data(), [&](int64_t i, const uint8_t* block) {
    if (is_zero(m, rows, block)) return;
    out[static_cast<size_t>(i / 8)] |= static_cast<uint8_t>(1 << i % 8);
    for (int64_t r = 0; r < rows; ++r, block += m.row_bytes()) out.insert(out.end(), block, block + m.part_bytes());
  });
  auto packed = std::make_shared<Tensor>(DType::u8, std::vector<int64_t>{static_cast<int64_t>(out.size())});
  std::ranges::copy(out, packed->data.data());
  return packed;
}

TensorPtr unpack_blocks(const Tensor& packed, DType type, const std::vector<int64_t>& dims, int64_t rows) {
  check(packed.dtype == DType::u8 && packed.dims.size() == 1, "is not a list of uint8, which blocks are stored as");
  check(std::ranges::find(kForms, rows) != std::end(kForms), "has blocks of ", rows, " outputs; wanted 1, 2 or 4");
  checked_bytes(type, dims);
  const Matrix m = matrix_of(type, dims);
  check(divides(m, rows), "has a shape that blocks of ", rows, " x ", kInputs, " do not divide");
  const auto bytes = static_cast<int64_t>(packed.data.size());
  check(bytes >= m.map_bytes(rows), "is shorter than the map of its blocks");  // so its size bounds the memory
  const uint8_t* map = packed.data.data();
  int64_t kept = 0;
  for (int64_t i = 0; i < m.map_bytes(rows); ++i) kept += __builtin_popcount(map[i]);
  check(m.blocks(rows) % 8 == 0 || map[m.map_bytes(rows) - 1] >> m.blocks(rows) % 8 == 0,
        "has a map with more blocks than its shape");
  const int64_t wanted = m.map_bytes(rows) + kept * rows * m.part_bytes();
  check(bytes == wanted, "has ", bytes, " bytes; wanted ", wanted);
  auto tensor = std::make_shared<Tensor>(type, dims);
  const uint8_t* from = map + m.map_bytes(rows);
  for_blocks(m, rows, tensor->data.data(), [&](int64_t i, uint8_t* block) {
    if ((map[i / 8] >> i % 8 & 1) == 0) return;
    for (int64_t r = 0; r < rows; ++r, block += m.row_bytes(), from += m.part_bytes())
      std::memcpy(block, from, static_cast<size_t>(m.part_bytes()));
  });
  // Each tensor has one stored form: whole blocks of zeros are left out, in the form that is smallest.
  check(smallest_form(*tensor) == rows, "is not stored in its smallest form");
  check(pack_blocks(*tensor, rows)->data.size() == packed.data.size(),  // else the map names a block that is not needed
        "stores a block of zeros");
  return tensor;
}

std::vector<StoredTensor> stored_tensors(const Graph& graph) {
  BlockRows block_rows(graph.values.size(), 0);
  for (size_t v = 0; v < block_rows.size(); ++v)
    if (const TensorPtr& tensor = graph.values[v].constant) block_rows[v] = smallest_form(*tensor);
  std::vector<StoredTensor> out;
  for (ValueId id : tensor_order(graph, block_rows)) {
    const TensorPtr& tensor = graph.value(id).constant;
    const int64_t rows = block_rows[static_cast<size_t>(id)];
    out.push_back({id, rows == 0 ? tensor : pack_blocks(*tensor, rows), rows});
  }
  return out;
}

BlockRows block_rows_of(const Graph& graph, const std::vector<StoredTensor>& stored) {
  BlockRows out(graph.values.size(), 0);
  for (const StoredTensor& s : stored) out[static_cast<size_t>(s.id)] = s.block_rows;
  return out;
}

}  // namespace taille::artefact
