#include "runtime/partition.h"

#include <numeric>

namespace taille {

namespace {

constexpr int64_t kPanel = 64;
constexpr int64_t kTileRows = 24;  // a multiple of most tiles' rows

// The share of the time in which all threads work, when `units` are dealt out in whole ones.
double balance(int64_t units, int parts) {
  const int64_t most = (units + parts - 1) / parts;
  return static_cast<double>(units) / static_cast<double>(most * parts);
}

}  // namespace

GemmPartition partition_gemm(int64_t m, int64_t n, int64_t activation_bytes, int64_t weight_bytes, int parts) {
  const int64_t grain = m >= 4 * parts * kTileRows ? kTileRows : 6;
  const GemmPartition rows{true, parts, grain}, columns{false, parts, kPanel};
  if (parts == 1) return rows;
  const double by_rows = balance((m + grain - 1) / grain, parts),
               by_columns = balance((n + kPanel - 1) / kPanel, parts);
  if (by_columns < 0.85 && by_rows > by_columns) return rows;
  if (by_rows < 0.85 && by_columns > by_rows) return columns;
  return weight_bytes > activation_bytes ? columns : rows;
}

std::vector<int64_t> runs_of_equal_work(std::span<const int64_t> work, int64_t grain, int64_t n, int parts) {
  const int64_t total = std::accumulate(work.begin(), work.end(), int64_t{0});
  std::vector<int64_t> runs{0};
  int64_t done = 0;
  for (size_t unit = 0; unit < work.size(); ++unit) {
    // A run ends where that is nearer to its share than after one more unit.
    const auto run = static_cast<int64_t>(runs.size());
    const int64_t begin = static_cast<int64_t>(unit) * grain, share = total * run / parts;
    if (run < parts && begin > runs.back() && share - done <= done + work[unit] - share) runs.push_back(begin);
    done += work[unit];
  }
  runs.push_back(n);
  return runs;
}

}  // namespace taille
