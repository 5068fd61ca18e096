// depthwise_s8 for one vector level. The kernel file first includes the level's dot (avx512_s8_vnni.h or
// avx_s8_split.h and what it needs).
//
// For a block of channels, one or two rows of the output and a strip of columns:
//   1. interleave_strip: the bytes of 4 input rows, one above the other, become the 32-bit lanes of 4 vectors
//      (quarters), for each column of the strip. They go into the scratch as dot wants them, padding included.
//   2. convolve_strip: one dot adds up to 4 rows of a tap column. A vector of the scratch serves each column of the
//      kernel, and both rows of the output.
// Interleaving and packing are inverse within 128-bit lanes, so nothing is permuted. Blocks narrower than a vector
// hold several pixels. With a stride, columns of the same remainder lie together, so that pixels stay neighbours.
#pragma once

#define TAILLE_UNROLL _Pragma("GCC unroll 8")

#include "kernels/depthwise.h"
#include "kernels/depthwise_s8_layout.h"

namespace taille {
namespace {

constexpr int64_t kParts = sizeof(Activations) / sizeof(I);
constexpr int64_t kPlane = kDepthwisePositions * kBytes;  // bytes: a quarter (or a part of it) of all columns
constexpr int64_t kSet = 4 * kParts * kPlane;             // bytes: a set of rows

struct Pass {
  const DepthwiseS8Args& g;
  int64_t together, sets, steps;  // of rows; steps of the dot loop: columns of the kernel times sets
  int32_t step_at[kDepthwiseMaxSteps];
  uint8_t* planes;
  uint8_t* edge;           // [4][kBytes]
  const Weights* w;        // [steps][together][4]
  const uint8_t* vectors;  // offset, scale and bias in packed order
  int64_t c, n;            // channels of this block from c on
};

inline void interleave(const I (&rows)[4], I (&out)[4]) {
  const I low01 = interleave_low8(rows[0], rows[1]), high01 = interleave_high8(rows[0], rows[1]);
  const I low23 = interleave_low8(rows[2], rows[3]), high23 = interleave_high8(rows[2], rows[3]);
  out[0] = interleave_low16(low01, low23);
  out[1] = interleave_high16(low01, low23);
  out[2] = interleave_low16(high01, high23);
  out[3] = interleave_high16(high01, high23);
}

inline void put(uint8_t* to, const I (&rows)[4]) {
  I dwords[4];
  interleave(rows, dwords);
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) {
    const Activations a = activations(dwords[q]);
    I parts[kParts];
    __builtin_memcpy(parts, &a, sizeof a);
    TAILLE_UNROLL for (int part = 0; part < kParts; ++part)
        store_bytes(to + (q * kParts + part) * kPlane, parts[part], kBytes);
  }
}

// Columns x, x + stride, ... of `rows` (null: padding), some of them outside the image, by way of memory.
template <int kWidth>
[[gnu::noinline]] void put_edge(const Pass& p, uint8_t* to, const uint8_t* const (&rows)[4], int64_t x) {
  const DepthwiseS8Args& g = p.g;
  I vectors[4];
  for (int b = 0; b < 4; ++b) {
    uint8_t* edge = p.edge + b * kBytes;
    __builtin_memset(edge, g.pad, kBytes);
    for (int pixel = 0; pixel < kBytes / kWidth && rows[b]; ++pixel) {
      const int64_t column = x + pixel * g.window.stride_w;
      if (column >= 0 && column < g.width)
        for (int64_t i = 0; i < p.n; ++i) edge[pixel * kWidth + i] = rows[b][column * g.channels + i];
    }
    vectors[b] = load_bytes(edge, kBytes);
  }
  put(to, vectors);
}

// All columns that output columns ox .. ox+count-1 of rows from oy on see.
template <int kWidth>
inline void interleave_strip(const Pass& p, int64_t oy, int64_t ox, int64_t count) {
  constexpr int64_t kPixels = kBytes / kWidth;
  const DepthwiseS8Args& g = p.g;
  const DepthwiseWindow& w = g.window;
  const int64_t positions = count + depthwise_s8_reach(w);
  const int64_t step = w.stride_w * g.channels;
  const I pad = all_bytes(g.pad);
  for (int64_t set = 0; set < p.sets; ++set) {
    const uint8_t* rows[4];
    for (int64_t b = 0; b < 4; ++b) {
      const int64_t ky = 4 * set + b, y = oy * w.stride_h - w.pad_top + ky * w.dilation_h;
      const bool exists = ky < w.kernel_h + (p.together - 1) * w.stride_h && y >= 0 && y < g.height;
      rows[b] = exists ? g.a + y * g.width * g.channels + p.c : nullptr;
    }
    for (int64_t phase = 0; phase < w.stride_w; ++phase) {
      uint8_t* to = p.planes + (phase * p.sets + set) * kSet;
      int64_t x = ox * w.stride_w - w.pad_left + phase;
      for (int64_t i = 0; i < positions; i += kPixels, to += kBytes, x += kPixels * w.stride_w) {
        const int64_t last = x + (kPixels - 1) * w.stride_w;
        if (x >= 0 && last < g.width) {
          I vectors[4];
          TAILLE_UNROLL for (int b = 0; b < 4; ++b) vectors[b] =
              rows[b] ? load_pixels<kWidth>(rows[b] + x * g.channels, step, p.n) : pad;
          put(to, vectors);
        } else if (last < 0 || x >= g.width) {
          const I vectors[4] = {pad, pad, pad, pad};
          put(to, vectors);
        } else {
          put_edge<kWidth>(p, to, rows, x);
        }
      }
    }
  }
}

// What the epilogue needs, in registers: GCC would load and compute it again after each store.
struct Ends {
  F lo, hi;
  I low, high;   // as bytes
  int64_t step;  // of out, elements between pixels
  int64_t n;     // channels that exist
};

// One vector of output from element `at` on: `pixels` pixels of kWidth channels, of which n exist.
template <int kWidth, bool kOutF32>
[[gnu::always_inline]] inline void finish(const Ends& e, const uint8_t* vectors, const I (&acc)[4], void* out,
                                          int64_t at, int64_t pixels) {
  const auto* scale = reinterpret_cast<const float*>(vectors + 256);
  const auto* bias = reinterpret_cast<const float*>(vectors + 512);
  F x[4];
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) x[q] =
      fma(to_f32(acc[q]), load_f32(scale + 16 * q, kLanes), load_f32(bias + 16 * q, kLanes));
  if constexpr (kOutF32) {
    TAILLE_UNROLL for (int q = 0; q < 4; ++q) x[q] = clamp(x[q], e.lo, e.hi);
    transpose_lanes(x);
    TAILLE_UNROLL for (int q = 0; q < 4; ++q) {
      const int64_t place = kLanes * q, c = place % kWidth;
      if (place / kWidth < pixels)
        store_f32(static_cast<float*>(out) + at + place / kWidth * e.step + c, x[q], e.n - c);
    }
  } else {
    I v[4];
    TAILLE_UNROLL for (int q = 0; q < 4; ++q) v[q] = round_half_even(x[q]);
    const I bytes = min_u8(max_u8(pack_lanes(v[0], v[1], v[2], v[3]), e.low), e.high);
    store_pixels<kWidth>(static_cast<uint8_t*>(out) + at, e.step, bytes, e.n, pixels);
  }
}

template <int kTogether>
[[gnu::always_inline]] inline void add_step(I (&acc)[kTogether][4], const uint8_t* a, const Weights* w) {
  TAILLE_UNROLL for (int q = 0; q < 4; ++q) {
    const Activations dwords = load_activations(a + q * kParts * kPlane, kPlane);
    TAILLE_UNROLL for (int r = 0; r < kTogether; ++r) {
      acc[r][q] = dot(acc[r][q], dwords, w[4 * r + q]);
      keep(acc[r][q]);  // GCC would copy every sum in every step
    }
  }
}

// kSteps: how many, where that is known (0: it is not).
template <int kWidth, int kTogether, int kSteps, bool kOutF32>
void convolve_strip(const Pass& p, int64_t oy, int64_t ox, int64_t count) {
  constexpr int64_t kPixels = kBytes / kWidth;
  const DepthwiseS8Args& g = p.g;
  const Ends ends{all_f32(g.lo), all_f32(g.hi), low_bytes(g.lo), low_bytes(g.hi), g.ldc, p.n};
  const bool second = oy + 1 < g.row_end;
  const uint8_t *const vectors = p.vectors, *planes = p.planes;
  const Weights* const weights_begin = p.w;
  const int32_t* const step_end = p.step_at + p.steps;
  void* const out = g.out;
  int64_t at = (oy * g.out_width + ox) * g.ldc + p.c;
  const int64_t row = g.out_width * g.ldc;
  for (int64_t o = 0; o < count; o += kPixels, planes += kBytes, at += kPixels * ends.step) {
    I acc[kTogether][4];
    TAILLE_UNROLL for (int r = 0; r < kTogether; ++r) TAILLE_UNROLL for (int q = 0; q < 4; ++q) acc[r][q] =
        load_bytes(vectors + 64 * q, kBytes);
    const Weights* w = weights_begin;
    const int32_t* step = p.step_at;
    if constexpr (kSteps > 0) {
      TAILLE_UNROLL for (int s = 0; s < kSteps; ++s) add_step(acc, planes + step[s], w + s * 4 * kTogether);
    } else {
      do {
        add_step(acc, planes + *step, w);
        w += 4 * kTogether;
      } while (++step < step_end);
    }
    const int64_t pixels = count - o < kPixels ? count - o : kPixels;
    finish<kWidth, kOutF32>(ends, vectors, acc[0], out, at, pixels);
    if constexpr (kTogether == 2)
      if (second) finish<kWidth, kOutF32>(ends, vectors, acc[1], out, at + row, pixels);
  }
}

using Convolve = void(const Pass& p, int64_t oy, int64_t ox, int64_t count);
template <int kWidth, int kTogether>
Convolve* choose_steps(const Pass& p) {
  if (p.g.out_f32) return convolve_strip<kWidth, kTogether, 0, true>;
  return p.steps == 3 ? convolve_strip<kWidth, kTogether, 3, false> : convolve_strip<kWidth, kTogether, 0, false>;
}

// A kernel 3 columns wide and up to 4 rows high, in whole vectors: the interleaved columns stay in registers and move
// on from pixel to pixel, and their shuffles run beside the dots.
template <int kTogether, int kStride>
void slide_3_columns(const Pass& p, int64_t oy) {
  const DepthwiseS8Args& g = p.g;
  const DepthwiseWindow& w = g.window;
  const Ends ends{all_f32(g.lo), all_f32(g.hi), low_bytes(g.lo), low_bytes(g.hi), g.ldc, p.n};
  const bool second = oy + 1 < g.row_end;
  const uint8_t* const vectors = p.vectors;
  const Weights* const weights_of = p.w;
  void* const out = g.out;
  const int64_t n = p.n, width = g.width, row = g.out_width * g.ldc;
  // Rows in the padding stay at one place: a vector of it.
  store_bytes(p.edge, all_bytes(g.pad), kBytes);
  const uint8_t* rows[4];
  int64_t steps[4];
  for (int64_t b = 0; b < 4; ++b) {
    const int64_t y = oy * w.stride_h - w.pad_top + b * w.dilation_h;
    const bool exists = b < w.kernel_h + (kTogether - 1) * w.stride_h && y >= 0 && y < g.height;
    rows[b] = exists ? g.a + y * width * g.channels + p.c : p.edge;
    steps[b] = exists ? g.channels : 0;
  }
  int64_t x = -w.pad_left;
  const auto next = [&](I(&column)[4]) __attribute__((always_inline)) {
    I bytes[4];
    if (x >= 0 && x < width) [[likely]] {
      TAILLE_UNROLL for (int b = 0; b < 4; ++b) bytes[b] = load_bytes(rows[b] + x * steps[b], n);
    } else {
      TAILLE_UNROLL for (int b = 0; b < 4; ++b) bytes[b] = load_bytes(p.edge, kBytes);
    }
    ++x;
    interleave(bytes, column);
  };
  I columns[3][4];
  TAILLE_UNROLL for (int i = 0; i < 3 - kStride; ++i) next(columns[kStride + i]);
  int64_t at = oy * row + p.c;
  for (int64_t o = 0; o < g.out_width; ++o, at += ends.step) {
    TAILLE_UNROLL for (int i = 0; i < 3 - kStride; ++i) TAILLE_UNROLL for (int q = 0; q < 4; ++q) columns[i][q] =
        columns[i + kStride][q];
    TAILLE_UNROLL for (int i = 3 - kStride; i < 3; ++i) next(columns[i]);
    I acc[kTogether][4];
    TAILLE_UNROLL for (int r = 0; r < kTogether; ++r) TAILLE_UNROLL for (int q = 0; q < 4; ++q) acc[r][q] =
        load_bytes(vectors + 64 * q, kBytes);
    const Weights* weights_now = weights_of;
    asm volatile("" : "+r"(weights_now));  // GCC would load some weights before the loop, onto the stack
    TAILLE_UNROLL for (int i = 0; i < 3; ++i) TAILLE_UNROLL for (int q = 0; q < 4; ++q) {
      const Activations dwords = activations(columns[i][q]);
      TAILLE_UNROLL for (int r = 0; r < kTogether; ++r) {
        acc[r][q] = dot(acc[r][q], dwords, weights_now[(i * kTogether + r) * 4 + q]);
        keep(acc[r][q]);
      }
    }
    finish<kBytes, false>(ends, vectors, acc[0], out, at, 1);
    if constexpr (kTogether == 2)
      if (second) finish<kBytes, false>(ends, vectors, acc[1], out, at + row, 1);
  }
}

using Slide = void(const Pass& p, int64_t oy);
// Null where the kernel does not suit. Without VNNI the registers do not suffice.
inline Slide* choose_slide(const Pass& p) {
  const DepthwiseWindow& w = p.g.window;
  if (kParts > 1 || p.g.out_f32 || p.steps != 3 || w.kernel_w != 3 || w.dilation_w != 1 || w.stride_w > 2)
    return nullptr;
  if (p.together == 2) return w.stride_w == 1 ? slide_3_columns<2, 1> : slide_3_columns<2, 2>;
  return w.stride_w == 1 ? slide_3_columns<1, 1> : slide_3_columns<1, 2>;
}

template <int kWidth>
void block(const Pass& p) {
  constexpr int64_t kPixels = kBytes / kWidth;
  const DepthwiseS8Args& g = p.g;
  if constexpr (kWidth == kBytes && kParts == 1)
    if (Slide* const slide = choose_slide(p)) {
      for (int64_t oy = g.row_begin; oy < g.row_end; oy += p.together) slide(p, oy);
      return;
    }
  const auto convolve = p.together == 2 ? choose_steps<kWidth, 2>(p) : choose_steps<kWidth, 1>(p);
  const int64_t most = (kDepthwisePositions - depthwise_s8_reach(g.window)) / kPixels * kPixels;
  for (int64_t oy = g.row_begin; oy < g.row_end; oy += p.together)
    for (int64_t ox = 0; ox < g.out_width; ox += most) {
      const int64_t count = g.out_width - ox < most ? g.out_width - ox : most;
      interleave_strip<kWidth>(p, oy, ox, count);
      convolve(p, oy, ox, count);
    }
}

inline void depthwise_s8_run(const DepthwiseS8Args& g) {
  const DepthwiseWindow& w = g.window;
  Pass p{g, depthwise_s8_rows_together(w), depthwise_s8_row_sets(w), 0, {}, nullptr, g.scratch, nullptr, nullptr, 0, 0};
  p.steps = w.kernel_w * p.sets;
  auto* const split = reinterpret_cast<Weights*>(g.scratch + 4 * kBytes);
  p.planes = g.scratch + 4 * kBytes + p.steps * p.together * 4 * static_cast<int64_t>(sizeof(Weights));
  const int64_t block_bytes = depthwise_s8_block_bytes(w);
  for (int64_t c = 0; c < g.channels; c += kBytes) {
    const int64_t left = g.channels - c / 64 * 64;
    const int64_t full = depthwise_s8_block_width(left);
    const int64_t width = full < kBytes ? full : kBytes;
    p.c = c;
    p.n = g.channels - c < width ? g.channels - c : width;
    const uint8_t* packed = g.packed + c / 64 * block_bytes + c % 64;
    if constexpr (kParts == 1) {
      p.w = reinterpret_cast<const Weights*>(packed);
    } else {
      for (int64_t i = 0; i < p.steps * p.together * 4; ++i) split[i] = weights(load_bytes(packed + 64 * i, kBytes));
      p.w = split;
    }
    p.vectors = packed + block_bytes - 3 * 256;
    for (int64_t s = 0; s < p.steps; ++s) {
      const int64_t column = s / p.sets * w.dilation_w;
      p.step_at[s] =
          static_cast<int32_t>((column % w.stride_w * p.sets + s % p.sets) * kSet + column / w.stride_w * width);
    }
    if constexpr (kBytes > 32) {
      if (width == 32) {
        block<32>(p);
        continue;
      }
    }
    width == 16 ? block<16>(p) : block<kBytes>(p);
  }
}

}  // namespace
}  // namespace taille
