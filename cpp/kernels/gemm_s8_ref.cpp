#include <algorithm>

#include "kernels/gemm_s8.h"
#include "kernels/gemm_s8_scalar.h"

namespace taille {
namespace {

// Column j of the packed weights: group p is at [p * step], 4 bytes each.
struct Column {
  const int8_t* w;
  int64_t step;
};
Column column(const GemmS8Args& g, int64_t j) {
  const int64_t padded = (g.taps * g.k + 3) / 4 * 4;
  const int64_t panel = j / 64 * 64, width = std::min<int64_t>(64, (g.n - panel + 15) / 16 * 16);
  return {g.packed + panel * padded + (j - panel) * 4, width * 4};
}

// The portable kernel widens rows and columns to int16 in scratch, zeros to whole groups included: compilers turn an
// int16 dot product into vector instructions on every CPU (pmaddwd, smlal), but not one of mixed bytes.
constexpr int64_t kRows = 16;  // kRows + 4 columns take 40 of the 48 bytes of scratch per byte of depth
constexpr int64_t kColumns = 4;

void widen_row(const GemmS8Args& g, int64_t i, int64_t depth, int16_t* row) {
  int16_t* end = row;
  for (int64_t tap = 0; tap < g.taps; ++tap) end = std::copy_n(gemm_s8_row(g, i, tap), g.k, end);
  std::fill(end, row + depth, int16_t{0});
}

void widen_columns(const Column& c, int64_t depth, int16_t* columns) {
  for (int64_t p = 0; p < depth; p += 4)
    for (int64_t j = 0; j < kColumns; ++j)
      for (int64_t b = 0; b < 4; ++b) columns[j * depth + p + b] = c.w[p / 4 * c.step + 4 * j + b];
}

void dot_columns(const int16_t* row, const int16_t* columns, int64_t depth, int32_t (&sums)[kColumns]) {
  const int16_t *w0 = columns, *w1 = w0 + depth, *w2 = w1 + depth, *w3 = w2 + depth;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (int64_t p = 0; p < depth; ++p) {
    s0 += row[p] * w0[p];
    s1 += row[p] * w1[p];
    s2 += row[p] * w2[p];
    s3 += row[p] * w3[p];
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

}  // namespace

void gemm_s8_portable(const GemmS8Args& g) {
  const int64_t depth = (g.taps * g.k + 3) / 4 * 4;
  auto* columns = reinterpret_cast<int16_t*>(g.scratch);
  int16_t* rows = columns + kColumns * depth;
  for (int64_t begin = g.m_begin; begin < g.m_end; begin += kRows) {
    const int64_t end = std::min(g.m_end, begin + kRows);
    for (int64_t i = begin; i < end; ++i) widen_row(g, i, depth, rows + (i - begin) * depth);
    for (int64_t j = g.n_begin; j < g.n_end; j += kColumns) {
      widen_columns(column(g, j), depth, columns);
      for (int64_t i = begin; i < end; ++i) {
        int32_t sums[kColumns];
        dot_columns(rows + (i - begin) * depth, columns, depth, sums);
        for (int64_t c = 0; c < std::min(kColumns, g.n_end - j); ++c) gemm_s8_finish(g, i, j + c, sums[c]);
      }
    }
  }
}

void gemm_s8_reference(const GemmS8Args& g) {
  for (int64_t i = g.m_begin; i < g.m_end; ++i) {
    for (int64_t j = g.n_begin; j < g.n_end; ++j) {
      const Column w = column(g, j);
      int32_t acc = 0;
      for (int64_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* a = gemm_s8_row(g, i, tap);
        for (int64_t p = 0; p < g.k; ++p) {
          const int64_t at = tap * g.k + p;
          acc += a[p] * w.w[at / 4 * w.step + at % 4];
        }
      }
      gemm_s8_finish(g, i, j, acc);
    }
  }
}

}  // namespace taille
