// Skip lists where a group of 4 is one instruction. Rows are read where they lie; where taps lie apart they are
// gathered first: a tap of few kept groups would be found for each strip of columns and row again. Include after
// avx512_s8_vnni.h and gemm_sparse_s8_lists.h.
//
// A tile of rows passes by all columns before the next one: it stays in L1, and the weights, which are read in order,
// come from L2 at 64 bytes per group for all rows of the tile.
#pragma once

#include "kernels/gemm_sparse_s8_lists.h"

namespace taille {
namespace {

constexpr int64_t kListTileBytes = 32 * 1024;  // of rows, in L1
constexpr int64_t kListLeastRows = 8;

template <int MR>
[[gnu::always_inline]] inline void list_step(Sum (&acc)[MR], const uint8_t* a, int64_t stride, const int8_t* values) {
  const Weights w = weights(load_bytes(values, kBytes));
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    if (r > 0 && r % 4 == 0) {
      a += 4 * stride;
      asm("" : "+r"(a));  // else GCC keeps every multiple of the stride, more than there are registers
    }
    acc[r] = (Sum)dot((I)acc[r], activations(broadcast4(a + r % 4 * stride)), w);
  }
}

template <int MR>
void multiply_list(const ListTile& t) {
  // Few rows take several groups at once, to fill the time that dot waits for the sum before.
  constexpr int kFill = (kSumsInFlight + MR - 1) / MR, kSets = kFill > 6 ? 6 : kFill;
  Sum acc[kSets][MR];
  const Sum offset = (Sum)load_s32(t.g.offset + t.j, kLanes);
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    acc[0][r] = offset;
    TAILLE_UNROLL for (int s = 1; s < kSets; ++s) acc[s][r] = Sum{};
  }
  const uint16_t* inputs = t.inputs;
  const int8_t* values = t.values;
  for (; t.end - inputs >= kSets; inputs += kSets, values += kSets * kListBlockBytes) {
    TAILLE_UNROLL for (int s = 0; s < kSets; ++s)
        list_step<MR>(acc[s], t.a + 4 * int64_t{inputs[s]}, t.stride, values + s * kListBlockBytes);
  }
  if constexpr (kSets > 1) {
    for (; inputs != t.end; ++inputs, values += kListBlockBytes)
      list_step<MR>(acc[0], t.a + 4 * int64_t{*inputs}, t.stride, values);
  }
  Sum sums[MR];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    TAILLE_UNROLL for (int s = 1; s < kSets; ++s) acc[0][r] += acc[s][r];
    sums[r] = acc[0][r];
  }
  finish_list(t, sums, MR);
}

template <int kMaxRows>
inline void gemm_sparse_s8_run_lists(const GemmSparseS8Args& args, const ListFunction (&functions)[kMaxRows]) {
  const GemmS8Args& g = args.product;
  const Ends ends = ends_of(g);
  const int64_t block = g.offsets ? kGatherRows : g.m_end - g.m_begin;
  const int64_t fit = kListTileBytes / (g.taps * g.k);
  const int64_t most = fit < kListLeastRows ? kListLeastRows : fit > kMaxRows ? kMaxRows : fit;
  for (int64_t begin = g.m_begin; begin < g.m_end; begin += block) {
    const int64_t end = begin + block < g.m_end ? begin + block : g.m_end;
    const Rows rows = g.offsets ? gather(g, begin, end) : rows_of(g);
    list_rows(begin, end, most, [&](int64_t i, int64_t count) {
      const uint8_t* a = row_pointer(rows, i, 0);
      for (int64_t j = g.n_begin; j < g.n_end; j += kListColumns)
        functions[count - 1](list_tile(args, ends, i, j, a, rows.lda));
    });
  }
}

}  // namespace
}  // namespace taille
