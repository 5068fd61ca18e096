// Products of 16 rows x 64 bytes by 64 bytes x 16 columns in AMX's tiles. The packed weights serve as they are: 16
// groups of 4 bytes and 16 columns of a panel are one tile, its rows `width * 4` bytes apart.
//
//   2 x 2 tiles of sums, for 32 rows: each tile that is loaded is used twice
//   1 x 4 tiles of sums, for the last 16 rows: four products are in flight, as one takes 52 cycles and the next starts
//   after 16
//
// All tiles have 16 rows: loading another configuration costs as much as ten products, so rows that are missing are
// made up in scratch and their sums thrown away. K is cut into steps of equal size (96 = 2 x 48), since a last short
// step would need a configuration too. Where that cannot be, rows are gathered and padded with zeros; the weights read
// beside those zeros belong to the next panel, or are what gemm_s8_packed_bytes leaves behind the last one.
#include "kernels/avx512_s8_vnni.h"
#include "kernels/gemm_s8_tiles.h"

namespace taille {

void gemm_s8_avx512vnni(const GemmS8Args&);

namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kStep = 64;                           // bytes of K in a tile at most
constexpr int64_t kGatherBlock = 96;                    // rows; see gemm_s8_scratch_bytes
constexpr int64_t kSumsStride = 64;                     // columns
constexpr int64_t kSums = 32 * 64;                      // 32 rows, 64 columns
constexpr int64_t kWorkBytes = kSums * 4 + 3 * 64 * 4;  // sums, constants
constexpr int64_t kFewRows = 4;       // below, the vector kernel waits for the weights no longer than this one would
constexpr int64_t kRowsInL1 = 24576;  // bytes of 32 rows that stay in the L1 cache beside weights that pass through
constexpr int64_t kWeightsInL2 = 1310720;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// K as `count` steps of `bytes`, which may reach over its end.
struct Steps {
  int64_t count, bytes;
  int64_t padded() const { return count * bytes; }
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
  for (int64_t s = 0; s < steps.count; ++s) {
    _tile_loadd(6, w.b, w.stride);
    _tile_loadd(4, x.a, x.stride);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, w.b + 64, w.stride);
    _tile_dpbusd(1, 4, 7);
    _tile_loadd(5, y.a, y.stride);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
    if (w.next) {
      fetch_step(w.next);
      w.next += 32 * 64;
    }
    x.a += steps.bytes;
    y.a += steps.bytes;
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
  for (int64_t s = 0; s < steps.count; ++s) {
    _tile_loadd(6, w.b, w.stride);
    _tile_loadd(4, x.a, x.stride);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, y.a, y.stride);
    _tile_dpbusd(1, 5, 6);
    x.a += steps.bytes;
    y.a += steps.bytes;
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
  for (int64_t s = 0; s < steps.count; ++s) {
    _tile_loadd(4, x.a, x.stride);
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
    x.a += steps.bytes;
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
    const Columns here{w.b + 4 * c, w.stride, w.next ? w.next + c / 32 * steps.count * 32 * 64 : nullptr};
    (width - c >= 32 ? multiply_2x2 : multiply_2x1)(steps, x, y, here, sums + c);
  }
}

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

  // Rows begin .. end-1 (of which those of `rows` start at its row 0) and the panel of columns from `panel` on.
  void panel(const BlockRows& rows, int64_t begin, int64_t end, int64_t panel) {
    const int64_t columns = g_.n - panel < kPanel ? g_.n - panel : kPanel;
    const int64_t width = (columns + 15) & ~int64_t{15};
    Columns weights{g_.packed + panel * depth_, width * 4, nullptr};
    const bool more = panel + 2 * kPanel <= g_.n_end;  // a whole panel follows
    constexpr decltype(&finish<1>) kFinish[] = {finish<1>, finish<2>, finish<3>, finish<4>};
    const Constants constants = constants_of(panel, columns);
    for (int64_t i = begin; i < end; i += 2 * kTileRows) {
      const int64_t left = end - i < 2 * kTileRows ? end - i : 2 * kTileRows;
      const RowTile second = left > kTileRows ? rows.at(i - begin + kTileRows) : RowTile{};
      weights.next = more && i == g_.m_begin ? weights.b + kPanel * depth_ : nullptr;
      multiply(steps_, rows.at(i - begin), second, weights, width, sums_);
      memory_changes();
      kFinish[width / 16 - 1]({g_, ends_, {}, i, panel, columns, nullptr, 0}, constants, sums_, left);
      memory_changes();
    }
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

int64_t panels_at_once(int64_t depth) {
  const int64_t fit = kWeightsInL2 / (depth * kPanel);
  return fit < 1 ? 1 : fit;
}

}  // namespace

void gemm_s8_amx(const GemmS8Args& g) {
  if (g.m_end - g.m_begin < kFewRows) return gemm_s8_avx512vnni(g);
  const int64_t depth = g.taps * g.k;
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
      for (int64_t panel = first; panel < last; panel += kPanel) product.panel(rows, i, end, panel);
    }
  }
  _tile_release();
}

}  // namespace taille
