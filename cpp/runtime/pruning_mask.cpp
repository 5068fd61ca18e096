#include "runtime/pruning_mask.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "kernels/quantize.h"
#include "runtime/operator.h"

namespace taille {

namespace {

constexpr int64_t kMaskGrain = 1 << 16;  // elements that are worth a thread

int parts_for(const MaskWorkers& workers, int64_t elements) {
  return static_cast<int>(std::clamp<int64_t>(elements / kMaskGrain, 1, workers.pool.threads()));
}

// An interval of keys in bins, as score_bins counts them.
struct Interval {
  int32_t low;
  int shift, bits;
};
constexpr Interval kEveryKey{0, kKeyBits - kMostBinBits, kMostBinBits};
constexpr int kDigit = 10;  // bits of the key that the next histogram finds within a bin

// All tensors as one row of elements.
class Elements {
 public:
  Elements(std::span<const ScoredTensor> tensors, Isa isa)
      : tensors_(tensors), kernel_(select_kernel(score_bins_table(), isa)) {
    for (const ScoredTensor& t : tensors) total_ += t.size();
  }
  int64_t total() const { return total_; }
  int64_t part_begin(int64_t part, int parts) const { return total_ * part / parts; }

  // Calls body(tensor, begin, end) for the elements first .. last-1 of the row.
  template <class Body>
  void for_ranges(int64_t first, int64_t last, const Body& body) const {
    int64_t start = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const int64_t size = tensors_[i].size();
      const int64_t begin = std::max<int64_t>(first - start, 0), end = std::min(last - start, size);
      if (begin < end) body(i, begin, end);
      start += size;
    }
  }

  void count(int64_t first, int64_t last, Interval in, int64_t* counts, int64_t* above) const {
    for_ranges(first, last, [&](size_t i, int64_t begin, int64_t end) {
      kernel_.run({tensors_[i].x, begin, end, in.low, in.shift, in.bits, counts, above});
    });
  }

 private:
  std::span<const ScoredTensor> tensors_;
  const KernelRow<ScoreBinsArgs>& kernel_;
  int64_t total_ = 0;
};

// Histograms of an interval, a row per part.
struct Histograms {
  Histograms(Interval in, int part_count)
      : bits(in.bits), parts(part_count), counts(static_cast<size_t>(parts) << bits), above(counts.size() >> bits) {}
  int64_t* row(int64_t part) { return counts.data() + (part << bits); }
  int64_t in_bin(int64_t part, int64_t bin) const { return counts[static_cast<size_t>((part << bits) + bin)]; }
  int64_t in_bin(int64_t bin) const {
    int64_t sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += in_bin(part, bin);
    return sum;
  }

  int bits, parts;
  std::vector<int64_t> counts, above;
};

struct Selected {
  int32_t key;                // the least that is kept
  std::vector<int64_t> ties;  // of those that have it, how many each part keeps
};

// The key of that rank: 1 is the largest. scan(interval) gives the histograms; if the key is not in the first interval,
// all keys are looked at.
template <class Scan>
Selected select(int64_t rank, Interval in, const Scan& scan) {
  while (true) {
    const Histograms found = scan(in);
    int64_t wanted = rank - std::accumulate(found.above.begin(), found.above.end(), int64_t{0});
    int64_t bin = int64_t{1} << in.bits, inside = 0;
    do {  // the first bin from the top that reaches the wanted number
      wanted -= inside;
      inside = found.in_bin(--bin);
    } while (inside < wanted && bin > 0);
    if (wanted <= 0 || inside < wanted) {
      in = kEveryKey;
      continue;
    }
    in.low += static_cast<int32_t>(bin << in.shift);
    if (in.shift == 0) {
      Selected out{in.low, {}};
      for (int64_t part = 0; part < found.parts; ++part) {
        out.ties.push_back(std::min(wanted, found.in_bin(part, bin)));
        wanted -= out.ties.back();
      }
      return out;
    }
    in.bits = std::min(kDigit, in.shift);
    in.shift -= in.bits;
  }
}

// Where the key of that rank should lie, by that of the same rank among some 2^16 elements in runs of 2^8. The interval
// is 3 to 6 % wide in value, several times what that sample is wrong by where the weights are alike all over.
Interval likely_interval(const Elements& elements, int64_t rank) {
  constexpr int64_t kRuns = 256, kRun = 256;
  constexpr int32_t kWidth = 1 << 19;
  if (elements.total() < 16 * kRuns * kRun) return kEveryKey;
  const double share = static_cast<double>(rank) / static_cast<double>(elements.total());
  const auto sample_rank = std::max<int64_t>(1, std::llround(share * static_cast<double>(kRuns * kRun)));
  const Selected sample = select(sample_rank, kEveryKey, [&](Interval in) {
    Histograms found(in, 1);
    for (int64_t run = 0; run < kRuns; ++run) {
      const int64_t first = elements.part_begin(run, kRuns);
      elements.count(first, first + kRun, in, found.row(0), found.above.data());
    }
    return found;
  });
  const int32_t low = std::max(sample.key, kWidth / 2) - kWidth / 2;  // a key is below 2^31 - 2^19
  return {low, 19 - kMostBinBits, kMostBinBits};
}

Selected select(const MaskWorkers& workers, const Elements& elements, int64_t rank, int parts) {
  return select(rank, likely_interval(elements, rank), [&](Interval in) {
    Histograms found(in, parts);
    workers.pool.run(parts, [&](int64_t part, int) {
      const int64_t first = elements.part_begin(part, parts), last = elements.part_begin(part + 1, parts);
      elements.count(first, last, in, found.row(part), &found.above[static_cast<size_t>(part)]);
    });
    return found;
  });
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
  split(workers.pool, n, kMaskGrain, parts, [&](int64_t begin, int64_t end, int thread) {
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
  if (kept == 0) {
    for (size_t i = 0; i < tensors.size(); ++i) std::memset(masks[i], 0, static_cast<size_t>(tensors[i].size()));
    return;
  }
  const Elements elements(tensors, workers.isa);
  const int parts = parts_for(workers, elements.total());
  const Selected selected = select(workers, elements, kept, parts);
  const auto& kernel = select_kernel(apply_mask_table(), workers.isa);
  workers.pool.run(parts, [&](int64_t part, int) {
    int64_t ties = selected.ties[static_cast<size_t>(part)];
    const int64_t first = elements.part_begin(part, parts), last = elements.part_begin(part + 1, parts);
    elements.for_ranges(first, last, [&](size_t i, int64_t begin, int64_t end) {
      kernel.run({tensors[i].x, begin, end, selected.key, &ties, masks[i]});
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
