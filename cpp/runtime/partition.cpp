#include "runtime/partition.h"

namespace taille {

namespace {

constexpr int64_t kPanel = 64;
constexpr int64_t kRows = 24;  // a multiple of most tiles' rows

// The share of the time in which all threads work, when `units` are dealt out in whole ones.
double balance(int64_t units, int parts) {
  const int64_t most = (units + parts - 1) / parts;
  return static_cast<double>(units) / static_cast<double>(most * parts);
}

}  // namespace

GemmPartition partition_gemm(int64_t m, int64_t n, int64_t activation_bytes, int64_t weight_bytes, int parts) {
  const int64_t grain = m >= 4 * parts * kRows ? kRows : 6;
  const GemmPartition rows{true, parts, grain}, columns{false, parts, kPanel};
  if (parts == 1) return rows;
  const double by_rows = balance((m + grain - 1) / grain, parts),
               by_columns = balance((n + kPanel - 1) / kPanel, parts);
  if (by_columns < 0.85 && by_rows > by_columns) return rows;
  if (by_rows < 0.85 && by_columns > by_rows) return columns;
  return weight_bytes > activation_bytes ? columns : rows;
}

}  // namespace taille
