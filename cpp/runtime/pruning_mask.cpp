#include "runtime/pruning_mask.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"
#include "kernels/quantize.h"
#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kGrain = 1 << 16;  // elements that are worth a thread

int parts_for(const MaskWorkers& workers, int64_t elements) {
  return static_cast<int>(std::clamp<int64_t>(elements / kGrain, 1, workers.pool.threads()));
}

// Which bits of the keys a histogram counts: all 31 are found in three.
struct Digit {
  int known, bits;
};
constexpr Digit kDigits[] = {{0, kMostBinBits}, {11, 10}, {21, 10}};
static_assert(kDigits[2].known + kDigits[2].bits == kKeyBits);

// All tensors as one row of elements, cut into a part per thread.
class Parts {
 public:
  Parts(std::span<const ScoredTensor> tensors, int count) : tensors_(tensors), count_(count) {
    for (const ScoredTensor& t : tensors) total_ += t.size();
  }
  int count() const { return count_; }

  // Calls body(tensor, begin, end) for the elements of each tensor that lie in the part.
  template <class Body>
  void for_ranges(int64_t part, const Body& body) const {
    const int64_t first = total_ * part / count_, last = total_ * (part + 1) / count_;
    int64_t start = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const int64_t size = tensors_[i].size();
      const int64_t begin = std::max<int64_t>(first - start, 0), end = std::min(last - start, size);
      if (begin < end) body(i, begin, end);
      start += size;
    }
  }

 private:
  std::span<const ScoredTensor> tensors_;
  int count_;
  int64_t total_ = 0;
};

struct Selected {
  int32_t threshold = 0;      // the least key that is kept
  std::vector<int64_t> ties;  // of those that have it, how many each part keeps
};

// The histograms of one digit, a row per part.
std::vector<int64_t> histograms(const MaskWorkers& workers, std::span<const ScoredTensor> tensors, const Parts& parts,
                                Digit digit, int32_t prefix) {
  const auto& kernel = select_kernel(score_bins_table(), workers.isa);
  std::vector<int64_t> counts(static_cast<size_t>(parts.count()) << digit.bits);
  workers.pool.run(parts.count(), [&](int64_t part, int) {
    int64_t* bins = counts.data() + (part << digit.bits);
    parts.for_ranges(part, [&](size_t i, int64_t begin, int64_t end) {
      kernel.run({tensors[i].x, begin, end, digit.known, prefix, digit.bits, bins});
    });
  });
  return counts;
}

Selected select(const MaskWorkers& workers, std::span<const ScoredTensor> tensors, const Parts& parts, int64_t kept) {
  Selected out;
  int64_t wanted = kept;  // of the keys that begin with the bits found so far
  for (const Digit digit : kDigits) {
    const std::vector<int64_t> counts = histograms(workers, tensors, parts, digit, out.threshold);
    const auto in_part = [&](int64_t part, int64_t bin) -> int64_t {
      return counts[static_cast<size_t>((part << digit.bits) + bin)];
    };
    int64_t bin = 1 << digit.bits, inside = 0;
    do {  // the first bin from the top that reaches the wanted number
      wanted -= inside;
      --bin;
      inside = 0;
      for (int part = 0; part < parts.count(); ++part) inside += in_part(part, bin);
    } while (inside < wanted && bin > 0);
    out.threshold = out.threshold << digit.bits | static_cast<int32_t>(bin);
    if (digit.known + digit.bits < kKeyBits) continue;
    for (int part = 0; part < parts.count(); ++part) {
      out.ties.push_back(std::min(wanted, in_part(part, bin)));
      wanted -= out.ties.back();
    }
  }
  return out;
}

// A byte per block to a byte per element.
void expand_blocks(const uint8_t* blocks, int64_t columns, BlockShape block, uint8_t* mask) {
  const int64_t count = columns / block.columns;
  if (block.columns == 4) {
    for (int64_t b = 0; b < count; ++b) {
      const uint32_t four = blocks[b] * 0x01010101u;
      std::memcpy(mask + 4 * b, &four, 4);
    }
  } else {
    for (int64_t b = 0; b < count; ++b)
      std::memset(mask + b * block.columns, blocks[b], static_cast<size_t>(block.columns));
  }
  for (int64_t r = 1; r < block.rows; ++r) std::memcpy(mask + r * columns, mask, static_cast<size_t>(columns));
}

}  // namespace

void check_scores(const MaskWorkers& workers, std::span<const float> x, const std::string& name, bool may_be_negative) {
  const auto& kernel = select_kernel(observe_table(), workers.isa);
  const auto n = static_cast<int64_t>(x.size());
  const int parts = parts_for(workers, n);
  std::vector<float> least(static_cast<size_t>(parts), 0.0f);
  std::vector<int64_t> bad(static_cast<size_t>(parts));
  split(workers.pool, n, kGrain, parts, [&](int64_t begin, int64_t end, int thread) {
    const auto at = static_cast<size_t>(thread);
    float most = 0;
    kernel.run({x.data() + begin, end - begin, &least[at], &most, &bad[at]});
  });
  for (size_t i = 0; i < bad.size(); ++i) {
    check(bad[i] == 0, name, " holds a NaN or an infinity");
    check(may_be_negative || least[i] >= 0, name, " holds a negative value");
  }
}

void magnitude_masks(const MaskWorkers& workers, std::span<const ScoredTensor> tensors, int64_t kept,
                     std::span<uint8_t* const> masks) {
  int64_t total = 0;
  for (const ScoredTensor& t : tensors) total += t.size();
  const Parts parts(tensors, parts_for(workers, total));
  Selected selected = select(workers, tensors, parts, kept);
  const auto& kernel = select_kernel(apply_mask_table(), workers.isa);
  workers.pool.run(parts.count(), [&](int64_t part, int) {
    int64_t ties = selected.ties[static_cast<size_t>(part)];
    parts.for_ranges(part, [&](size_t i, int64_t begin, int64_t end) {
      kernel.run({tensors[i].x, begin, end, selected.threshold, &ties, masks[i]});
    });
  });
}

void nm_mask(const MaskWorkers& workers, const ScoredTensor& tensor, int64_t n, int64_t m, uint8_t* mask) {
  const auto& kernel = select_kernel(nm_mask_table(), workers.isa);
  split(workers.pool, tensor.rows, 1, parts_for(workers, tensor.size()),
        [&](int64_t begin, int64_t end, int) { kernel.run({tensor.x, begin, end, n, m, mask}); });
}

void block_mask(const MaskWorkers& workers, const ScoredTensor& tensor, bool energy, BlockShape block, int64_t kept,
                uint8_t* mask) {
  const int64_t columns = tensor.x.columns, blocks_of_row = columns / block.columns;
  const int64_t rows_of_blocks = tensor.rows / block.rows;
  const auto count = static_cast<size_t>(rows_of_blocks * blocks_of_row);
  const auto energies = std::make_unique_for_overwrite<float[]>(count);
  const auto chosen = std::make_unique_for_overwrite<uint8_t[]>(count);
  const int parts = parts_for(workers, tensor.size());
  const auto& kernel = select_kernel(block_scores_table(), workers.isa);
  split(workers.pool, tensor.rows, block.rows, parts, [&](int64_t begin, int64_t end, int) {
    kernel.run({tensor.x, begin, end, block.rows, block.columns, energy, energies.get()});
  });
  const ScoredTensor blocks{{energies.get(), nullptr, blocks_of_row}, rows_of_blocks};
  uint8_t* const of_blocks = chosen.get();
  magnitude_masks(workers, {&blocks, 1}, kept, {&of_blocks, 1});
  split(workers.pool, tensor.rows, block.rows, parts, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row += block.rows)
      expand_blocks(of_blocks + row / block.rows * blocks_of_row, columns, block, mask + row * columns);
  });
}

}  // namespace taille
