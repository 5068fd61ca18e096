// A plan: everything that depends on the shapes of one call. Which buffers live when (liveness), where they lie in one
// arena (greedy by size), and each node's Planned. Immutable, shared by all runs of the same shapes.
//
// A value that only a concat reads is written where it ends up, in the concat's output, its rows as far apart as those
// of that output, if its producer can do so (Operator::strided_output). The concat then has nothing to copy.
//
// Some runs of steps take a batch sample by sample (sample_loops.h). What lives only between them has the size of a
// sample.
#pragma once

#include <memory>
#include <vector>

#include "graph/graph.h"
#include "runtime/operator.h"
#include "runtime/sample_loops.h"

namespace taille {

// Where a value lies at run time.
struct Slot {
  enum class Kind : uint8_t { none, constant, input, output, arena };
  Kind kind = Kind::none;
  int64_t at = 0;       // index of the value (constant), of the graph input or output, or arena offset in bytes
  int64_t offset = 0;   // bytes from there on, within a concat's output
  int64_t advance = 0;  // bytes from one sample to the next, for a step of a sample loop
};

struct Step {
  size_t node;
  Planned planned;
  std::vector<Slot> inputs;
  Slot output;
};

struct Plan {
  std::vector<Dims> dims;   // of every value
  std::vector<Slot> slots;  // of every value
  std::vector<Step> steps;
  std::vector<SampleLoop> loops;  // of steps
  int64_t arena_bytes = 0;        // buffers and scratch
  int64_t scratch_offset = 0;     // scratch is the arena's tail
  // Graph outputs that are inputs, constants or earlier outputs under another name: copied at the end.
  struct OutputCopy {
    Slot from;
    size_t output;
    int64_t bytes;
  };
  std::vector<OutputCopy> copies;
};

// operators[i] belongs to node i; null for reshapes, which are only another view. `whole`: every value is in one piece,
// for those who look at it.
Plan make_plan(const Graph& graph, const std::vector<OperatorPtr>& operators, const SymbolValues& symbols, bool whole);

// Greedy by size: each block at the lowest offset where nothing alive at the same time lies. Fills `offset`, returns
// the bytes needed. Source: Pisarchyk & Lee 2020, arXiv:2001.03288.
struct Block {
  int64_t bytes;
  int32_t first, last;  // steps at which it is alive, inclusive
  int64_t offset;
};
int64_t place_blocks(std::vector<Block>& blocks);

}  // namespace taille
