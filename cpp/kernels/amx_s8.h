// Products of 16 rows x 64 bytes by 64 bytes x 16 columns in AMX's tiles, and the walk over a product's blocks, for
// gemm_s8 and conv_s8. The packed weights serve as they are: 16 groups of 4 bytes and 16 columns of a panel are one
// tile, its rows `width * 4` bytes apart.
//
//   2 x 2 tiles of sums, for 32 rows: each tile that is loaded is used twice
//   1 x 4 tiles of sums, for the last 16 rows: four products are in flight, as one takes 52 cycles and the next starts
//   after 16
//
// All tiles have 16 rows: loading another configuration costs as much as ten products, so the sums of rows that are
// missing are thrown away. K is cut into steps of equal size (96 = 2 x 48), since a last short step would need a
// configuration too.
#pragma once

#include "kernels/avx512_s8_vnni.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kStep = 64;                           // bytes of K in a tile at most
constexpr int64_t kSumsStride = 64;                     // columns
constexpr int64_t kSums = 32 * 64;                      // 32 rows, 64 columns
constexpr int64_t kWorkBytes = kSums * 4 + 3 * 64 * 4;  // sums, constants

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Each tap's bytes as `count` steps of `bytes`, which may reach over its end.
struct Steps {
  int64_t count, bytes;
  int64_t taps = 1, tap_stride = 0;  // bytes from a row of one tap to that of the next
  int64_t padded() const { return count * bytes; }
  int64_t all() const { return taps * count; }
};

Steps steps_of(int64_t depth) {
  int64_t count = (depth + kStep - 1) / kStep;
  // A few more, smaller steps are cheaper than gathering.
  for (int64_t more = count; more <= count + count / 4 + 1; ++more)
    if (depth % (4 * more) == 0) return {more, depth / more};
  return {count, ((depth + count - 1) / count + 3) & ~int64_t{3}};
}

// The intrinsics say nothing of memory to the compiler.
inline void memory_changes() { asm volatile("" ::: "memory"); }

// Tiles 0-3 are sums, 4 and 5 rows, 6 and 7 weights.
void configure(const Steps& steps) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.rows[t] = t < 6 ? kTileRows : static_cast<uint8_t>(steps.bytes / 4);
    config.row_bytes[t] = t == 4 || t == 5 ? static_cast<uint16_t>(steps.bytes) : 64;
  }
  memory_changes();
  _tile_loadconfig(&config);
}

// 16 rows of activations.
struct RowTile {
  const uint8_t* a;
  int64_t stride;
};

struct Columns {
  const int8_t* b;
  int64_t stride;      // bytes between groups of 4
  const int8_t* next;  // weights to fetch meanwhile, or null
};

// Of the columns of a panel, whole vectors to read.
struct Constants {
  const int32_t* offset;
  const float *scale, *bias;
};

// Sums of some rows and of 16 * NV columns to outputs.
template <int NV>
void finish(Tile t, const Constants& constants, const int32_t* sums, int64_t rows) {
  F scale[NV], bias[NV];
  I offset[NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    offset[v] = _mm512_loadu_si512(constants.offset + kLanes * v);
    scale[v] = _mm512_loadu_ps(constants.scale + kLanes * v);
    bias[v] = _mm512_loadu_ps(constants.bias + kLanes * v);
  }
  for (int64_t r = 0; r < rows; ++r, ++t.i, sums += kSumsStride) {
    F x[1][NV];
    TAILLE_UNROLL for (int v = 0; v < NV; ++v) x[0][v] =
        fma(to_f32(add_s32(_mm512_load_si512(sums + kLanes * v), offset[v])), scale[v], bias[v]);
    if (t.g.out_f32)
      store_f32<1, NV>(t, x);
    else
      store_u8<1, NV>(t, x);
  }
}

// Weights that are met for the first time come from beyond L2. The hardware fetches ahead within a page of 4 KiB, and a
// step takes one: so each step asks for the same step of the next panel.
inline void fetch_step(const int8_t* next) {
  TAILLE_UNROLL for (int i = 0; i < 32; ++i) _mm_prefetch(next + 64 * i, _MM_HINT_T1);
}

[[gnu::noinline]] void multiply_2x2(const Steps& steps, RowTile x, RowTile y, Columns w, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t advance = steps.bytes / 4 * w.stride;
  for (int64_t tap = 0; tap < steps.taps; ++tap)
    for (int64_t k = tap * steps.tap_stride, end = k + steps.padded(); k < end; k += steps.bytes) {
      _tile_loadd(6, w.b, w.stride);
      _tile_loadd(4, x.a + k, x.stride);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w.b + 64, w.stride);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(5, y.a + k, y.stride);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
      if (w.next) {
        fetch_step(w.next);
        w.next += 32 * 64;
      }
      w.b += advance;
    }
  _tile_stored(0, sums, kSumsStride * 4);
  _tile_stored(1, sums + 16, kSumsStride * 4);
  _tile_stored(2, sums + kTileRows * kSumsStride, kSumsStride * 4);
  _tile_stored(3, sums + kTileRows * kSumsStride + 16, kSumsStride * 4);
}

// The last 16 columns.
[[gnu::noinline]] void multiply_2x1(const Steps& steps, RowTile x, RowTile y, Columns w, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  const int64_t advance = steps.bytes / 4 * w.stride;
  for (int64_t tap = 0; tap < steps.taps; ++tap)
    for (int64_t k = tap * steps.tap_stride, end = k + steps.padded(); k < end; k += steps.bytes) {
      _tile_loadd(6, w.b, w.stride);
      _tile_loadd(4, x.a + k, x.stride);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(5, y.a + k, y.stride);
      _tile_dpbusd(1, 5, 6);
      w.b += advance;
    }
  _tile_stored(0, sums, kSumsStride * 4);
  _tile_stored(1, sums + kTileRows * kSumsStride, kSumsStride * 4);
}

template <int C>
[[gnu::noinline]] void multiply_1xc(const Steps& steps, RowTile x, Columns w, int32_t* sums) {
  _tile_zero(0);
  if constexpr (C > 1) _tile_zero(1);
  if constexpr (C > 2) _tile_zero(2);
  if constexpr (C > 3) _tile_zero(3);
  const int64_t advance = steps.bytes / 4 * w.stride;
  for (int64_t tap = 0; tap < steps.taps; ++tap)
    for (int64_t k = tap * steps.tap_stride, end = k + steps.padded(); k < end; k += steps.bytes) {
      _tile_loadd(4, x.a + k, x.stride);
      _tile_loadd(6, w.b, w.stride);
      _tile_dpbusd(0, 4, 6);
      if constexpr (C > 1) {
        _tile_loadd(7, w.b + 64, w.stride);
        _tile_dpbusd(1, 4, 7);
      }
      if constexpr (C > 2) {
        _tile_loadd(6, w.b + 128, w.stride);
        _tile_dpbusd(2, 4, 6);
      }
      if constexpr (C > 3) {
        _tile_loadd(7, w.b + 192, w.stride);
        _tile_dpbusd(3, 4, 7);
      }
      w.b += advance;
    }
  _tile_stored(0, sums, kSumsStride * 4);
  if constexpr (C > 1) _tile_stored(1, sums + 16, kSumsStride * 4);
  if constexpr (C > 2) _tile_stored(2, sums + 32, kSumsStride * 4);
  if constexpr (C > 3) _tile_stored(3, sums + 48, kSumsStride * 4);
}

// `width` columns (16, 32, 48 or 64) of 32 rows, or of 16 where y.a is null.
void multiply(const Steps& steps, RowTile x, RowTile y, Columns w, int64_t width, int32_t* sums) {
  if (!y.a) {
    constexpr decltype(&multiply_1xc<1>) kByWidth[] = {multiply_1xc<1>, multiply_1xc<2>, multiply_1xc<3>,
                                                       multiply_1xc<4>};
    return kByWidth[width / 16 - 1](steps, x, w, sums);
  }
  for (int64_t c = 0; c < width; c += 32) {
    const Columns here{w.b + 4 * c, w.stride, w.next ? w.next + c / 32 * steps.all() * 32 * 64 : nullptr};
    (width - c >= 32 ? multiply_2x2 : multiply_2x1)(steps, x, y, here, sums + c);
  }
}

// One call.
class Product {
 public:
  Product(const GemmS8Args& g, const Steps& steps)
      : g_(g),
        ends_(ends_of(g)),
        steps_(steps),
        depth_((g.taps * g.k + 3) & ~int64_t{3}),
        sums_(reinterpret_cast<int32_t*>(g.scratch)) {
    const int64_t panel = g.n / kPanel * kPanel;
    if (g.n % kLanes != 0 && g.n_end == g.n) pad_constants(panel, g.n - panel);
  }

  // Up to 32 rows by the panel of columns from `panel` on, from rows.tile(0) and rows.tile(16). The outputs go to
  // rows.runs(...). `first`: these weights are met for the first time.
  template <class Rows>
  void block(const Rows& rows, int64_t count, int64_t panel, bool first) {
    constexpr decltype(&finish<1>) kFinish[] = {finish<1>, finish<2>, finish<3>, finish<4>};
    const int64_t columns = g_.n - panel < kPanel ? g_.n - panel : kPanel;
    const int64_t width = (columns + 15) & ~int64_t{15};
    const bool fetch = first && panel + 2 * kPanel <= g_.n_end;  // a whole panel follows
    const int8_t* b = g_.packed + panel * depth_;
    const Columns weights{b, width * 4, fetch ? b + kPanel * depth_ : nullptr};
    multiply(steps_, rows.tile(0), count > kTileRows ? rows.tile(kTileRows) : RowTile{}, weights, width, sums_);
    memory_changes();
    const Constants constants = constants_of(panel, columns);
    rows.runs(count, [&](int64_t skip, int64_t output, int64_t length) {
      kFinish[width / 16 - 1]({g_, ends_, {}, output, panel, columns, nullptr, 0}, constants,
                              sums_ + skip * kSumsStride, length);
    });
    memory_changes();
  }

 private:
  const GemmS8Args& g_;
  const Ends ends_;
  const Steps steps_;
  const int64_t depth_;
  int32_t* const sums_;  // and constants behind them

  int32_t* padded() const { return sums_ + kSums; }

  void pad_constants(int64_t panel, int64_t columns) const {
    const void* from[] = {g_.offset + panel, g_.scale + panel, g_.bias + panel};
    for (int64_t c = 0; c < 3; ++c) {
      __builtin_memset(padded() + c * kPanel, 0, kPanel * 4);
      __builtin_memcpy(padded() + c * kPanel, from[c], static_cast<size_t>(columns * 4));
    }
  }

  Constants constants_of(int64_t panel, int64_t columns) const {
    if (columns % kLanes == 0) return {g_.offset + panel, g_.scale + panel, g_.bias + panel};
    const auto* floats = reinterpret_cast<const float*>(padded());
    return {padded(), floats + kPanel, floats + 2 * kPanel};
  }
};

}  // namespace
}  // namespace taille
