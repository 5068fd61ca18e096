// Products of signed bytes, four a lane, where activations are unsigned: flipping the top bit takes 128 from a byte.
//
// Many rows: the activations are flipped, 16 bytes of a row at a time, and each column begins with 128 times the sum of
// its weights. Its strip of 16 columns is put together in scratch for all rows of a block, which lie in L1 then, and
// summed up meanwhile. 6 rows by 16 columns: 24 sums, 6 of rows, weights and the mask in 32 registers.
// One row by 64 columns, two by 32: the weights are flipped as they come, the products are unsigned, and each row gives
// up 128 times the sum of its bytes. Nothing is read twice.
#include "kernels/neon_s8_dot.h"
// The vocabulary comes first.
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr int64_t kStripColumns = 16;
constexpr int64_t kFewRows = 2;

// 128 in every byte, made anew: kept, it would take the register that 6 rows leave for weights.
[[gnu::always_inline]] inline uint8x16_t top_bits() {
  uint8x16_t bits;
  asm volatile("movi %0.16b, #128" : "=w"(bits));
  return bits;
}

template <int P, int MR, int NV>
[[gnu::always_inline]] inline void step_lane(Sum (&acc)[MR][NV], const int8x16_t (&rows)[MR], const int8_t* b) {
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const int8x16_t w = vld1q_s8(b + kBytes * v);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
      acc[r][v] = vdotq_laneq_s32(acc[r][v], w, rows[r], P);
      asm("" : "+w"(acc[r][v]));  // in the register it is in: GCC would spill one
    }
  }
}

// A function of its own: inlined, its spills would look like those of the loop.
template <int MR, int NV>
[[gnu::noinline]] void finish_sums(const Tile& t, const Sum (&sums)[MR][NV]) {
  finish_tile<MR, NV>(t, sums);
}

// t.b is the strip in scratch, start the sums that its columns begin with.
template <int MR>
void tile_dot(const Tile& t, const int32_t* start) {
  constexpr int NV = kStripColumns / kLanes;
  Sum acc[MR][NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const Sum first = vld1q_s32(start + kLanes * v);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) acc[r][v] = first;
  }
  const int8_t* b = t.b;
  for (int64_t tap = 0; tap < t.rows.taps; ++tap) {
    const uint8_t* p[MR];
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) p[r] = row_pointer(t.rows, t.i + r, tap);
    int64_t k = 0;
    for (; k + kBytes <= t.rows.k; k += kBytes, b += kBytes * kStripColumns) {
      const uint8x16_t flip = top_bits();
      int8x16_t rows[MR];
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) rows[r] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p[r] + k), flip));
      step_lane<0>(acc, rows, b);
      step_lane<1>(acc, rows, b + 4 * kStripColumns);
      step_lane<2>(acc, rows, b + 8 * kStripColumns);
      step_lane<3>(acc, rows, b + 12 * kStripColumns);
    }
    for (; k < t.rows.k; k += 4, b += 4 * kStripColumns) {
      int8x16_t rows[MR];
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) rows[r] =
          vreinterpretq_s8_u8(veorq_u8(u8(broadcast4(p[r] + k)), top_bits()));
      step_lane<0>(acc, rows, b);
    }
  }
  Sum sums[MR][NV];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) { TAILLE_UNROLL for (int v = 0; v < NV; ++v) sums[r][v] = acc[r][v]; }
  finish_sums<MR, NV>(t, sums);
}

using DotTile = void (*)(const Tile&, const int32_t* start);
constexpr DotTile kTiles[] = {tile_dot<1>, tile_dot<2>, tile_dot<3>, tile_dot<4>, tile_dot<5>, tile_dot<6>};
constexpr int64_t kMaxRows = 6;

// Column j and 15 more, one group behind the other, and their starts. `step`: bytes between groups of the panel.
inline void put_strip_together(const GemmS8Args& g, int64_t j, const int8_t* b, int64_t step, int64_t groups,
                               int8_t* strip, int32_t (&start)[kStripColumns]) {
  constexpr int NV = kStripColumns / kLanes;
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums[NV] = {zero(), zero(), zero(), zero()};
  for (int64_t p = 0; p < groups; ++p, b += step, strip += 4 * kStripColumns)
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      const int8x16_t w = vld1q_s8(b + kBytes * v);
      vst1q_s8(strip + kBytes * v, w);
      sums[v] = vdotq_s32(sums[v], w, ones);
    }
  TAILLE_UNROLL for (int v = 0; v < NV; ++v)
      vst1q_s32(start + kLanes * v,
                vaddq_s32(load_s32(g.offset + j + kLanes * v, g.n - j - kLanes * v), vshlq_n_s32(sums[v], 7)));
}

// Scratch, per thread: rows where they are gathered, then the strip (gemm_s8_scratch_bytes has more).
inline void run_many(const GemmS8Args& g) {
  const Ends ends = ends_of(g);
  const int64_t padded = (g.taps * g.k + 3) & ~int64_t{3};
  const bool gathered = is_gathered(g);
  auto* const strip = reinterpret_cast<int8_t*>(g.scratch + ((kGatherRows * padded + 63) & ~int64_t{63}));
  const int64_t block = rows_in_block(g, gathered);
  for (int64_t i = g.m_begin; i < g.m_end; i += block) {
    const int64_t end = i + block < g.m_end ? i + block : g.m_end;
    const Rows rows = gathered ? gather(g, i, end) : rows_in_place(g);
    for (int64_t j = g.n_begin; j < g.n_end; j += kStripColumns) {
      const int64_t panel = j / kPanel * kPanel, left = g.n - panel < kPanel ? g.n - panel : kPanel;
      const int64_t width = (left + 15) & ~int64_t{15};
      int32_t start[kStripColumns];
      put_strip_together(g, j, g.packed + panel * padded + (j - panel) * 4, width * 4, padded / 4, strip, start);
      Tile t{g, ends, rows, i, j, g.n - j, strip, 4 * kStripColumns};
      for (int64_t tall = 0; t.i < end; t.i += tall) {
        const int64_t tiles_left = (end - t.i + kMaxRows - 1) / kMaxRows;
        tall = (end - t.i + tiles_left - 1) / tiles_left;
        kTiles[tall - 1](t, start);
      }
    }
  }
}

template <int P, int MR, int NV>
[[gnu::always_inline]] inline void few_lane(uint32x4_t (&acc)[MR][NV], const uint8x16_t (&rows)[MR], const int8_t* b,
                                            uint8x16_t flip) {
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    const uint8x16_t w = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(b + kBytes * v)), flip);
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) acc[r][v] = vdotq_laneq_u32(acc[r][v], w, rows[r], P);
  }
}

template <int MR, int NV>
void tile_few(const Tile& t) {
  uint32x4_t acc[MR][NV], bytes[MR];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    bytes[r] = vdupq_n_u32(0);
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = vdupq_n_u32(0);
  }
  const uint8x16_t flip = vdupq_n_u8(0x80), ones = vdupq_n_u8(1);
  const int8_t* b = t.b;
  for (int64_t tap = 0; tap < t.rows.taps; ++tap) {
    const uint8_t* p[MR];
    TAILLE_UNROLL for (int r = 0; r < MR; ++r) p[r] = row_pointer(t.rows, t.i + r, tap);
    int64_t k = 0;
    for (; k + kBytes <= t.rows.k; k += kBytes, b += 4 * t.b_step) {
      uint8x16_t rows[MR];
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
        rows[r] = vld1q_u8(p[r] + k);
        bytes[r] = vdotq_u32(bytes[r], rows[r], ones);
      }
      few_lane<0>(acc, rows, b, flip);
      few_lane<1>(acc, rows, b + t.b_step, flip);
      few_lane<2>(acc, rows, b + 2 * t.b_step, flip);
      few_lane<3>(acc, rows, b + 3 * t.b_step, flip);
    }
    for (; k < t.rows.k; k += 4, b += t.b_step) {
      uint8x16_t rows[MR];
      TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
        rows[r] = u8(vsetq_lane_s32(vgetq_lane_s32(broadcast4(p[r] + k), 0), zero(), 0));
        bytes[r] = vdotq_u32(bytes[r], rows[r], ones);
      }
      few_lane<0>(acc, rows, b, flip);
    }
  }
  Sum sums[MR][NV];
  TAILLE_UNROLL for (int r = 0; r < MR; ++r) {
    const int32x4_t too_much = vreinterpretq_s32_u32(vshlq_n_u32(vdupq_n_u32(vaddvq_u32(bytes[r])), 7));
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
      const I offset = load_s32(t.g.offset + t.j + kLanes * v, t.columns - kLanes * v);
      sums[r][v] = vaddq_s32(vsubq_s32(vreinterpretq_s32_u32(acc[r][v]), too_much), offset);
    }
  }
  finish_sums<MR, NV>(t, sums);
}

constexpr TileFunction kFew16[] = {tile_few<1, 4>, tile_few<2, 4>};
constexpr TileFunction kFew32[] = {tile_few<1, 8>, tile_few<2, 8>};
constexpr TileFunction kFew48[] = {tile_few<1, 12>};
constexpr TileFunction kFew64[] = {tile_few<1, 16>};
constexpr Tiles kFew[] = {{kFew16, 2}, {kFew32, 2}, {kFew48, 1}, {kFew64, 1}};

}  // namespace

void gemm_s8_neondot(const GemmS8Args& g) {
  const int64_t rows = g.m_end - g.m_begin;
  if (rows > kFewRows) return run_many(g);
  gemm_s8_run(g, kFew, rows == 1 ? 64 : 32);
}

}  // namespace taille
