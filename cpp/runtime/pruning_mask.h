// Masks that say which weights to keep, by the kernels of kernels/pruning_mask.h over a pool of threads. What is kept
// is an exact number of elements (or blocks) of largest score; among equal ones the earlier is kept. No result depends
// on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "kernels/pruning_mask.h"

namespace taille {

struct ScoredTensor {
  ScoredMatrix x;
  int64_t rows;

  int64_t size() const { return rows * x.columns; }
};

// Where masks are computed: the pool and the level of the kernels.
struct MaskWorkers {
  ThreadPool& pool;
  Isa isa;
};

// Throws std::invalid_argument naming `name` if there is a NaN or an infinity or, where that is not allowed, a negative
// value.
void check_scores(const MaskWorkers& workers, std::span<const float> x, const std::string& name, bool may_be_negative);

// Keeps `kept` elements of all tensors together. masks[i] has a byte per element of tensors[i], 0 or 1.
void magnitude_masks(const MaskWorkers& workers, std::span<const ScoredTensor> tensors, int64_t kept,
                     std::span<uint8_t* const> masks);

// Keeps n of every m consecutive columns; m divides them.
void nm_mask(const MaskWorkers& workers, const ScoredTensor& tensor, int64_t n, int64_t m, uint8_t* mask);

struct BlockShape {
  int64_t rows, columns;  // divide the tensor's
};

// Keeps `kept` blocks of largest energy (see kernels/pruning_mask.h).
void block_mask(const MaskWorkers& workers, const ScoredTensor& tensor, bool energy, BlockShape block, int64_t kept,
                uint8_t* mask);

}  // namespace taille
