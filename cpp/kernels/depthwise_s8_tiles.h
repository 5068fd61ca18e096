// depthwise_s8 for one vector level. The kernel file first includes the level's dot (avx512_s8_vnni.h or
// avx_s8_split.h and what it needs).
//
// For a block of channels (a vector of bytes), the bytes of 4 taps are interleaved, so that each 32-bit lane holds the
// 4 taps of one channel and one dot adds them all. Interleaving and packing are inverse within 128-bit lanes: sum q,
// lane l holds channels 16l + 4q ..., and pack_lanes puts them back. Weights, scales and offsets are brought into
// that order once per block; then the block runs down all rows.
#pragma once

#define TAILLE_UNROLL _Pragma("GCC unroll 4")

#include "kernels/depthwise.h"

namespace taille {
namespace {

constexpr int64_t kMaxTaps = 64;  // 8x8; more go to the portable kernel

// What does not change from row to row in a block of channels.
struct Block {
  Weights w[kMaxTaps / 4][4];
  int32_t offset[4][kLanes];
  float scale[4][kLanes], bias[4][kLanes];
};

inline void interleave(const I (&taps)[4], I (&out)[4]) {
  const I low01 = interleave_low8(taps[0], taps[1]), high01 = interleave_high8(taps[0], taps[1]);
  const I low23 = interleave_low8(taps[2], taps[3]), high23 = interleave_high8(taps[2], taps[3]);
  out[0] = interleave_low16(low01, low23);
  out[1] = interleave_high16(low01, low23);
  out[2] = interleave_low16(high01, high23);
  out[3] = interleave_high16(high01, high23);
}

inline void prepare(const DepthwiseS8Args& g, int64_t c, int64_t n, Block& block) {
  for (int64_t tap = 0; tap < g.taps; tap += 4) {
    I bytes[4], dwords[4];
    for (int64_t t = 0; t < 4; ++t)
      bytes[t] = tap + t < g.taps ? load_bytes(g.w + (tap + t) * g.channels + c, n) : zero();
    interleave(bytes, dwords);
    for (int q = 0; q < 4; ++q) block.w[tap / 4][q] = weights(dwords[q]);
  }
  for (int q = 0; q < 4; ++q) {
    for (int l = 0; l < kLanes; ++l) {
      const int64_t channel = l / 4 * 16 + 4 * q + l % 4;
      const bool exists = channel < n;
      block.offset[q][l] = exists ? g.offset[c + channel] : 0;
      block.scale[q][l] = exists ? g.scale[c + channel] : 0.0f;
      block.bias[q][l] = exists ? g.bias[c + channel] : 0.0f;
    }
  }
}

// The channels of tap `tap` of the row whose offsets are given; zeros for a tap that does not exist.
inline I load_tap(const DepthwiseS8Args& g, const int32_t* offsets, int64_t tap, int64_t c, int64_t n) {
  if (tap >= g.taps) return zero();
  return load_bytes((offsets[tap] < 0 ? g.pad_row : g.a + offsets[tap]) + c, n);
}

inline void row(const DepthwiseS8Args& g, int64_t i, int64_t c, int64_t n, const Block& block) {
  const int32_t* offsets = g.offsets + i * g.taps;
  I acc[4];
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) acc[q] = load_s32(block.offset[q], kLanes);
  for (int64_t tap = 0; tap < g.taps; tap += 4) {
    const I bytes[4] = {load_tap(g, offsets, tap, c, n), load_tap(g, offsets, tap + 1, c, n),
                        load_tap(g, offsets, tap + 2, c, n), load_tap(g, offsets, tap + 3, c, n)};
    I dwords[4];
    interleave(bytes, dwords);
    TAILLE_UNROLL for (int q = 0; q < 4; ++q) acc[q] = dot(acc[q], activations(dwords[q]), block.w[tap / 4][q]);
  }
  F x[4];
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) x[q] =
      fma(to_f32(acc[q]), load_f32(block.scale[q], kLanes), load_f32(block.bias[q], kLanes));
  const F hi = all_f32(g.hi);
  if (!g.out_f32) {
    I v[4];
    TAILLE_UNROLL for (int q = 0; q < 4; ++q) v[q] = round_half_even(cap(x[q], hi));
    const I bytes = max_u8(pack_lanes(v[0], v[1], v[2], v[3]), low_bytes(g.lo));
    store_bytes(static_cast<uint8_t*>(g.out) + i * g.ldc + c, bytes, n);
    return;
  }
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) x[q] = clamp(x[q], all_f32(g.lo), hi);
  transpose_lanes(x);
  TAILLE_UNROLL for (int q = 0; q < 4; ++q)
      store_f32(static_cast<float*>(g.out) + i * g.ldc + c + kLanes * q, x[q], n - kLanes * q);
}

inline void depthwise_s8_run(const DepthwiseS8Args& g) {
  Block block;
  for (int64_t c = 0; c < g.channels; c += kBytes) {
    const int64_t n = g.channels - c < kBytes ? g.channels - c : kBytes;
    prepare(g, c, n, block);
    for (int64_t i = g.m_begin; i < g.m_end; ++i) row(g, i, c, n, block);
  }
}

}  // namespace
}  // namespace taille
