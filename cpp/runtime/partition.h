// How one matrix product is shared out over threads: by rows of the activations, or by panels of 64 weight columns.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/operator.h"

namespace taille {

struct GemmPartition {
  bool by_rows;
  int parts;
  int64_t grain;                      // rows or columns; runs are multiples of it
  std::vector<int64_t> columns = {};  // where the runs of columns begin, and n; where empty they are equally long

  struct Part {
    int64_t m_begin, m_end, n_begin, n_end;
  };
};

// Each thread reads all of one operand and its share of the other. Sharing out rows makes every core stream all
// weights, sharing out columns makes every core read all activations: the larger operand is the one to share out.
// Columns come in panels, so few of them may not divide evenly; then rows are better unless those are few too.
GemmPartition partition_gemm(int64_t m, int64_t n, int64_t activation_bytes, int64_t weight_bytes, int parts);

// Runs of nearly equal work, where each unit of `grain` out of n takes as long as `work` says: their first elements,
// and n. At most `parts` runs, none of them empty.
std::vector<int64_t> runs_of_equal_work(std::span<const int64_t> work, int64_t grain, int64_t n, int parts);

// Calls body(part, thread) for each part.
template <class Body>
void for_parts(ThreadPool& pool, const GemmPartition& p, int64_t m, int64_t n, const Body& body) {
  if (!p.columns.empty()) {
    return pool.run(static_cast<int64_t>(p.columns.size()) - 1, [&](int64_t run, int thread) {
      const int64_t* at = p.columns.data() + run;
      body(GemmPartition::Part{0, m, at[0], at[1]}, thread);
    });
  }
  split(pool, p.by_rows ? m : n, p.grain, p.parts, [&](int64_t begin, int64_t end, int thread) {
    body(p.by_rows ? GemmPartition::Part{begin, end, 0, n} : GemmPartition::Part{0, m, begin, end}, thread);
  });
}

// The order of a part's columns where few rows pass by, so that the product waits for its weights. Every other run goes
// backwards, panel by panel: what the last run read at its end is still in L2, where going forwards again would evict
// it. That pays where all weights of a model are little more than L2: the MLP of 2.4 MB takes 54 us, not 61.
class BackAndForth {
 public:
  static constexpr int64_t kMostRows = 4;

  // Whether this run goes backwards.
  bool turn(int64_t rows) const { return rows <= kMostRows && turns_.fetch_add(1, std::memory_order_relaxed) % 2 != 0; }

  // Calls body(n_begin, n_end) for all of them, or from the last panel of 64 to the first.
  template <class Body>
  static void for_columns(const GemmPartition::Part& p, bool back, const Body& body) {
    if (!back) return body(p.n_begin, p.n_end);
    for (int64_t n = (p.n_end - 1) / kPanel * kPanel; n >= p.n_begin; n -= kPanel)
      body(n, std::min(n + kPanel, p.n_end));
  }

 private:
  static constexpr int64_t kPanel = 64;
  mutable std::atomic<uint32_t> turns_{0};
};

}  // namespace taille
