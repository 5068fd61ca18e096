// gemm_s8 in AMX's tiles. Where K cannot be cut into equal steps, or taps lie apart, rows are gathered and padded with
// zeros; the weights read beside those zeros belong to the next panel, or are what gemm_s8_packed_bytes leaves behind
// the last one. Rows that are missing in a last tile are made up in scratch.
#include "kernels/amx_s8.h"

namespace taille {

void gemm_s8_avx512vnni(const GemmS8Args&);

namespace {

constexpr int64_t kGatherBlock = 96;       // rows; see gemm_s8_scratch_bytes
constexpr int64_t kFewRows = 4;            // below, the vector kernel waits for the weights no longer than tiles would
constexpr int64_t kShallow = 24;           // as deep, its sums are done before tiles would be stored and read again
constexpr int64_t kWeightsInL2 = 1 << 20;  // bytes

// `count` bytes, a multiple of 64.
inline void copy_whole(uint8_t* to, const uint8_t* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64) _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}

// Rows begin .. end-1 in scratch, padded with zeros to steps.padded(), up to a whole tile of rows.
RowTile gather_rows(const GemmS8Args& g, const Steps& steps, int64_t begin, int64_t end) {
  const int64_t depth = g.taps * g.k, padded = steps.padded();
  // Rows a multiple of 4096 bytes apart would share their places in the L1 cache.
  const RowTile out{g.scratch + kWorkBytes, padded % 512 == 0 ? padded + 64 : padded};
  uint8_t* to = g.scratch + kWorkBytes;
  for (int64_t i = begin; i < end; ++i, to += out.stride) {
    if (g.offsets) {
      const int32_t* offsets = g.offsets + i * g.taps;
      for (int64_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* from = offsets[tap] < 0 ? g.pad_row : g.a + offsets[tap];
        g.k % 64 == 0 ? copy_whole(to + tap * g.k, from, g.k) : copy_over(to + tap * g.k, from, g.k);
      }
    } else {
      copy_over(to, g.a + i * g.lda, g.k);
    }
    for (int64_t b = depth; b < padded; ++b) to[b] = 0;
  }
  memory_changes();
  return out;
}

// Where the rows of one block lie: in the caller's tensor but for an incomplete tile at the end, or all in scratch.
struct BlockRows {
  RowTile first, last;
  int64_t last_begin;  // `last` counts from this row of the block

  RowTile at(int64_t row) const {
    const bool in_last = row >= last_begin;
    const RowTile& from = in_last ? last : first;
    return {from.a + (in_last ? row - last_begin : row) * from.stride, from.stride};
  }
};

BlockRows block_rows(const GemmS8Args& g, const Steps& steps, bool gathered, int64_t begin, int64_t end) {
  if (gathered) return {{}, gather_rows(g, steps, begin, end), 0};
  const int64_t whole = (end - begin) / kTileRows * kTileRows;
  const RowTile first{g.a + begin * g.lda, g.lda};
  return {first, whole < end - begin ? gather_rows(g, steps, begin + whole, end) : RowTile{}, whole};
}

// From row `at` of a block that begins at row `begin`: every row is an output.
struct PlainRows {
  const BlockRows& block;
  int64_t begin, at;

  RowTile tile(int64_t row) const { return block.at(at + row); }
  template <class F>
  void runs(int64_t count, const F& f) const {
    f(0, begin + at, count);
  }
};

int64_t panels_at_once(int64_t depth) {
  const int64_t fit = kWeightsInL2 / (depth * kPanel);
  return fit < 1 ? 1 : fit;
}

}  // namespace

void gemm_s8_amx(const GemmS8Args& g) {
  const int64_t depth = g.taps * g.k;
  if (g.m_end - g.m_begin < kFewRows || depth <= kShallow) return gemm_s8_avx512vnni(g);
  const Steps steps = steps_of(depth);
  const bool gathered = g.offsets || steps.padded() != depth || g.lda % 4096 == 0;
  // Weights in groups that stay in L2 while all rows pass by; of these 32 at a time, which stay in L1 for the whole
  // group. Gathering is dearer than that: all columns for each block of gathered rows.
  const int64_t group = gathered ? g.n : panels_at_once(depth) * kPanel;
  const int64_t block = gathered ? kGatherBlock : 2 * kTileRows;
  configure(steps);
  Product product(g, steps);
  for (int64_t first = g.n_begin; first < g.n_end; first += group) {
    const int64_t last = first + group < g.n_end ? first + group : g.n_end;
    for (int64_t i = g.m_begin; i < g.m_end; i += block) {
      const int64_t end = i + block < g.m_end ? i + block : g.m_end;
      const BlockRows rows = block_rows(g, steps, gathered, i, end);
      for (int64_t panel = first; panel < last; panel += kPanel)
        for (int64_t at = 0; at < end - i; at += 2 * kTileRows) {
          const int64_t count = end - i - at < 2 * kTileRows ? end - i - at : 2 * kTileRows;
          product.block(PlainRows{rows, i, at}, count, panel, i + at == g.m_begin);
        }
    }
  }
  _tile_release();
}

}  // namespace taille
