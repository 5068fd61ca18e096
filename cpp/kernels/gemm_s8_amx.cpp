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
constexpr int64_t kStep = 64;             // bytes of K in a tile at most
constexpr int64_t kGatherBlock = 96;      // rows; see gemm_s8_scratch_bytes
constexpr int64_t kSumsBytes = 32 * 256;  // 32 rows x 64 columns
constexpr int64_t kFewRows = 4;      // below, the vector kernel waits for the weights no longer than this one would
constexpr int64_t kSumsStride = 64;  // columns

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
  int64_t stride;  // bytes between groups of 4
};

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
    const Columns here{w.b + 4 * c, w.stride};
    (width - c >= 32 ? multiply_2x2 : multiply_2x1)(steps, x, y, here, sums + c);
  }
}

// Sums of some rows and of 16 * NV columns to outputs.
template <int NV>
void finish(Tile t, const int32_t* sums, int64_t rows) {
  F scale[NV], bias[NV];
  I offset[NV];
  TAILLE_UNROLL for (int v = 0; v < NV; ++v) {
    offset[v] = load_s32(t.g.offset + t.j + kLanes * v, t.columns - kLanes * v);
    scale[v] = load_f32(t.g.scale + t.j + kLanes * v, t.columns - kLanes * v);
    bias[v] = load_f32(t.g.bias + t.j + kLanes * v, t.columns - kLanes * v);
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

// Rows begin .. end-1 in scratch, padded with zeros to steps.padded(), up to a whole tile of rows.
RowTile gather_rows(const GemmS8Args& g, const Steps& steps, int64_t begin, int64_t end) {
  const int64_t depth = g.taps * g.k, padded = steps.padded();
  // Rows a multiple of 4096 bytes apart would share their places in the L1 cache.
  const RowTile out{g.scratch + kSumsBytes, padded % 512 == 0 ? padded + 64 : padded};
  uint8_t* to = g.scratch + kSumsBytes;
  for (int64_t i = begin; i < end; ++i, to += out.stride) {
    if (g.offsets) {
      const int32_t* offsets = g.offsets + i * g.taps;
      for (int64_t tap = 0; tap < g.taps; ++tap)
        copy_over(to + tap * g.k, offsets[tap] < 0 ? g.pad_row : g.a + offsets[tap], g.k);
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

void run_panel(const GemmS8Args& g, const Steps& steps, const BlockRows& rows, int64_t begin, int64_t end,
               int64_t panel) {
  constexpr decltype(&finish<1>) kFinish[] = {finish<1>, finish<2>, finish<3>, finish<4>};
  const int64_t padded = (g.taps * g.k + 3) & ~int64_t{3};
  const int64_t columns = g.n - panel < kPanel ? g.n - panel : kPanel;
  const int64_t width = (columns + 15) & ~int64_t{15};
  const Columns weights{g.packed + panel * padded, width * 4};
  auto* sums = reinterpret_cast<int32_t*>(g.scratch);
  for (int64_t i = begin; i < end; i += 2 * kTileRows) {
    const int64_t left = end - i < 2 * kTileRows ? end - i : 2 * kTileRows;
    const RowTile second = left > kTileRows ? rows.at(i - begin + kTileRows) : RowTile{};
    multiply(steps, rows.at(i - begin), second, weights, width, sums);
    memory_changes();
    kFinish[width / 16 - 1]({g, {}, i, panel, columns, nullptr, 0}, sums, left);
  }
}

}  // namespace

void gemm_s8_amx(const GemmS8Args& g) {
  if (g.m_end - g.m_begin < kFewRows) return gemm_s8_avx512vnni(g);
  const int64_t depth = g.taps * g.k;
  const Steps steps = steps_of(depth);
  const bool gathered = g.offsets || steps.padded() != depth || g.lda % 4096 == 0;
  const int64_t fit = kBlockBytes / (depth + 1) / kGatherBlock * kGatherBlock;
  const int64_t block = gathered || fit < kGatherBlock ? kGatherBlock : fit;
  configure(steps);
  for (int64_t i = g.m_begin; i < g.m_end; i += block) {
    const int64_t end = i + block < g.m_end ? i + block : g.m_end;
    const BlockRows rows = block_rows(g, steps, gathered, i, end);
    for (int64_t panel = g.n_begin; panel < g.n_end; panel += kPanel) run_panel(g, steps, rows, i, end, panel);
  }
  _tile_release();
}

}  // namespace taille
