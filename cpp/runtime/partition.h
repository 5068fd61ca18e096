// How one matrix product is shared out over threads: by rows of the activations, or by panels of 64 weight columns.
#pragma once

#include <cstdint>

#include "runtime/operator.h"

namespace taille {

struct GemmPartition {
  bool by_rows;
  int parts;
  int64_t grain;  // rows or columns; runs are multiples of it

  struct Part {
    int64_t m_begin, m_end, n_begin, n_end;
  };
};

// Each thread reads all of one operand and its share of the other. Sharing out rows makes every core stream all
// weights, sharing out columns makes every core read all activations: the larger operand is the one to share out.
// Columns come in panels, so few of them may not divide evenly; then rows are better unless those are few too.
GemmPartition partition_gemm(int64_t m, int64_t n, int64_t activation_bytes, int64_t weight_bytes, int parts);

// Calls body(part, thread) for each part.
template <class Body>
void for_parts(ThreadPool& pool, const GemmPartition& p, int64_t m, int64_t n, const Body& body) {
  split(pool, p.by_rows ? m : n, p.grain, p.parts, [&](int64_t begin, int64_t end, int thread) {
    body(p.by_rows ? GemmPartition::Part{begin, end, 0, n} : GemmPartition::Part{0, m, begin, end}, thread);
  });
}

}  // namespace taille
