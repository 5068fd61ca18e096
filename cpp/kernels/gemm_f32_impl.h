// The float matrix product with its epilogue. A panel of B stays in L2 while the rows advance. Include after one
// vec16_*.h.
#pragma once

#include <cstdint>

#include "kernels/gemm_f32.h"
#include "kernels/matmul_tile.h"
#include "kernels/vec16_math.h"

namespace {

inline const float* gemm_row(const taille::GemmF32Args& g, int64_t i, int64_t tap) {
  if (g.offsets == nullptr) return g.a + i * g.lda;
  const int32_t offset = g.offsets[i * g.taps + tap];
  return offset < 0 ? g.pad_row : g.a + offset;
}

// bias, residual, clamp and store of one vector of `n` columns
[[gnu::always_inline]] inline void gemm_finish(const taille::GemmF32Args& g, V16 v, int64_t i, int64_t j, int64_t n) {
  if (g.bias != nullptr) v = v + load_upto(g.bias + j, n, splat(0.0f));
  if (g.residual != nullptr) v = v + load_upto(g.residual + i * g.residual_stride + j, n, splat(0.0f));
  store_upto(g.out + i * g.ldc + j, clamp(v, splat(g.lo), splat(g.hi)), n);
}

// Part of the taps * k steps that an output is summed over. Sums wait in `out` from one block to the next: they are
// float32 there as in a register, so blocks change no bit.
struct GemmDepth {
  int64_t tap, within;  // where it begins
  int64_t steps;
  bool first, last;
};

// Whole: the block is all of the depth.
template <class B, bool Whole>
struct GemmPanel {
  const taille::GemmF32Args& g;
  int64_t column;  // the panel's first
  const B* b;      // from the block's first step on
  int64_t width;
  GemmDepth depth;
  int64_t strip;     // first vector of the strip at hand
  const char* next;  // the block or panel after this one, or null
  int64_t apart;     // bytes between its lines

  template <int MR, int NV>
  static void tile(const GemmPanel& s, int64_t i) {
    const taille::GemmF32Args& g = s.g;
    const int64_t j = s.column + 16 * s.strip;
    const auto columns = [&](int v) -> int64_t { return v + 1 < NV ? 16 : g.n - j - 16 * v; };
    V16 acc[MR][NV];
    clear(acc);
    if (!Whole && !s.depth.first) {
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
        for (int v = 0; v < NV; ++v)
          acc[r][v] = load_upto(g.out + (i + r) * g.ldc + j + 16 * v, columns(v), splat(0.0f));
    }
    accumulate(s, i, acc);
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 32
      for (int v = 0; v < NV; ++v) {
        if (Whole || s.depth.last)
          gemm_finish(g, acc[r][v], i + r, j + 16 * v, columns(v));
        else
          store_upto(g.out + (i + r) * g.ldc + j + 16 * v, acc[r][v], columns(v));
      }
  }

  static constexpr int64_t kFetchTiles = 8;
  // The first eight tiles bring the next block to L2, an eighth each: it comes from beyond, and a product of few rows
  // would wait for it. Not faster: lines on their way hold the buffers that this block's own loads need. A panel has
  // four lines a step, so that is one every second step; a strip has one.
  template <int NV>
  using FetchOf = Fetch<NV == 4                        ? 2
                        : NV == 1 && kTileVectors == 1 ? kFetchTiles
                                                       : 0>;
  template <int MR, int NV>
  static const char* fetched(const GemmPanel& s, int64_t i, int64_t done) {
    const int64_t tile = (i - s.g.m_begin) / MR;
    if (s.next == nullptr || tile >= kFetchTiles) return nullptr;
    return s.next + (tile * s.depth.steps + done) / FetchOf<NV>::kEvery * s.apart;
  }

  template <int MR, int NV>
  [[gnu::always_inline]] static void accumulate(const GemmPanel& s, int64_t i, V16 (&acc)[MR][NV]) {
    const B* b = s.b + 16 * s.strip;
    int64_t within = Whole ? 0 : s.depth.within, left = s.depth.steps;
    for (int64_t t = Whole ? 0 : s.depth.tap; left > 0; ++t) {
      const int64_t rest = s.g.k - within, steps = Whole || rest < left ? rest : left;
      const float* a[MR];
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r) a[r] = gemm_row(s.g, i + r, t) + within;
      const char* next = nullptr;
      if constexpr (FetchOf<NV>::kEvery > 0) next = fetched<MR, NV>(s, i, s.depth.steps - left);
      if (next != nullptr)
        multiply_add(acc, a, b, s.width, steps, FetchOf<NV>{next, s.apart});
      else
        multiply_add(acc, a, b, s.width, steps);
      b += steps * s.width;
      left -= steps;
      within = 0;
    }
  }
};

constexpr int64_t kRowBlock = 56;  // a multiple of the tile heights of most levels

// Each tile reads the panel as it is. Where all weights stay in L2, a block of rows meets all panels before the next
// block does: its outputs (and residuals) are whole rows then, which the hardware fetches and writes back better than
// 256 bytes of each. [3136, 64] by [64, 256] with a residual: 610 us, panel by panel 770.
template <class B>
inline void gemm_direct(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  const bool by_rows =
      (g.n_end - g.n_begin) * k_total * static_cast<int64_t>(sizeof(B)) <= taille::kGemmF32ResidentBytes;
  const int64_t rows = by_rows ? kRowBlock : g.m_end - g.m_begin;
  taille::GemmF32Args block = g;
  for (int64_t i = g.m_begin; i < g.m_end; i += rows) {
    block.m_begin = i;
    block.m_end = i + rows < g.m_end ? i + rows : g.m_end;
    for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
      const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
      const int64_t vectors = (columns + 15) / 16;
      const B* panel = static_cast<const B*>(g.packed) + j * k_total;
      const bool more = sizeof(B) == sizeof(float) && i == g.m_begin && j + 2 * kPanel <= g.n_end;
      const char* next = more ? reinterpret_cast<const char*>(panel + kPanel * k_total) : nullptr;
      strips(GemmPanel<B, true>{block, j, panel, 16 * vectors, {0, 0, k_total, true, true}, 0, next, 64}, vectors,
             block.m_begin, block.m_end);
    }
  }
}

inline const float* widened(const float* b, int64_t, float*) { return b; }
template <class Half>
inline const float* widened(const Half* b, int64_t n, float* scratch) {
  for (int64_t i = 0; i < n; i += 16) store(scratch + i, load(b + i));
  return scratch;
}

// Blocks of a panel for all rows; 16-bit ones are widened into the scratch once.
template <class B>
inline void gemm_blocked(const taille::GemmF32Args& g, int64_t deepest) {
  const int64_t k_total = g.taps * g.k;
  for (int64_t j = g.n_begin; j < g.n_end; j += kPanel) {
    const int64_t columns = g.n - j < kPanel ? g.n - j : kPanel;
    const int64_t vectors = (columns + 15) / 16, width = 16 * vectors;
    const B* panel = static_cast<const B*>(g.packed) + j * k_total;
    int64_t begin = 0;
    do {  // at least once, for the epilogue
      const int64_t left = k_total - begin;
      const int64_t steps = left < deepest ? left : deepest;
      const float* b = widened(panel + begin * width, steps * width, g.scratch);
      const GemmDepth depth{g.k ? begin / g.k : 0, g.k ? begin % g.k : 0, steps, begin == 0, steps == left};
      const bool more = sizeof(B) == sizeof(float) && (steps < left || j + 2 * kPanel <= g.n_end);
      const char* next = more ? reinterpret_cast<const char*>(b + steps * width) : nullptr;
      strips(GemmPanel<float, false>{g, j, b, width, depth, 0, next, 64}, vectors, g.m_begin, g.m_end);
      begin += steps;
    } while (begin < k_total);
  }
}

// Blocks cost a round trip of the sums through `out`: they pay where there are rows to read a block again, and a panel
// is far larger than L1 and its outputs are not.
inline void gemm_wide(const taille::GemmF32Args& g) {
  const int64_t rows = g.m_end - g.m_begin, k_total = g.taps * g.k;
  const bool few = rows <= taille::kGemmF32BlockRows && k_total >= taille::kGemmF32BlockFloats;
  if (rows > taille::kGemmF32DirectRows && (few || k_total >= taille::kGemmF32DeepFloats))
    gemm_blocked<float>(g, taille::kGemmF32DepthBlock);
  else
    gemm_direct<float>(g);
}

// For few rows weights are widened by each tile as it reads them; else once.
template <class Half>
inline void gemm_half(const taille::GemmF32Args& g) {
  const int64_t rows = g.m_end - g.m_begin, k_total = g.taps * g.k;
  if (rows <= taille::kGemmF32DirectRows) return gemm_direct<Half>(g);
  if (taille::gemm_f32_widened_bytes(g.n, k_total) <= taille::kGemmF32ResidentBytes) {
    taille::GemmF32Args wide = g;
    const int64_t begin = g.n_begin * k_total, end = (g.n_end + 15) / 16 * 16 * k_total;
    widened(static_cast<const Half*>(g.packed) + begin, end - begin, g.scratch + begin);
    wide.packed = g.scratch;
    return gemm_wide(wide);
  }
  gemm_blocked<Half>(g, rows <= taille::kGemmF32BlockRows ? taille::kGemmF32DepthBlock : taille::kGemmF32WideBlock);
}

// For levels whose tiles are 16 columns wide. Such a strip lies in pieces of 64 bytes, 256 apart in its panel, which
// share a quarter of the sets of L1: a block of it is put together in the scratch, in float32 whatever it was, and
// meets all rows. [64, 1024] by [1024, 1024]: 11.5 MAC/cycle, 6.8 before.
template <class B>
struct GemmStrips {
  const taille::GemmF32Args& g;
  int64_t k_total, deepest;

  int64_t width(int64_t j) const {
    const int64_t left = g.n - j / kPanel * kPanel;
    return left < kPanel ? (left + 15) / 16 * 16 : kPanel;
  }
  const B* at(int64_t j, int64_t begin) const {
    return static_cast<const B*>(g.packed) + j / kPanel * kPanel * k_total + begin * width(j) + j % kPanel;
  }
  int64_t steps(int64_t begin) const { return k_total - begin < deepest ? k_total - begin : deepest; }

  // A block of a strip for the rows of `rows`, in which `tap` and `within` are its first step; the next one to come is
  // at (next_j, next_begin).
  void run(const taille::GemmF32Args& rows, int64_t tap, int64_t within, int64_t j, int64_t begin, int64_t next_j,
           int64_t next_begin) const {
    const B* from = at(j, begin);
    for (int64_t p = 0, n = steps(begin); p < n; ++p) store(g.scratch + 16 * p, load(from + p * width(j)));
    const GemmDepth depth{tap, within, steps(begin), begin == 0, begin + steps(begin) == k_total};
    const char* next = next_j < g.n_end ? reinterpret_cast<const char*>(at(next_j, next_begin)) : nullptr;
    const auto apart = next_j < g.n_end ? width(next_j) * static_cast<int64_t>(sizeof(B)) : 0;
    tiles<1>(GemmPanel<float, false>{rows, j, g.scratch, 16, depth, 0, next, apart}, g.m_begin, g.m_end);
  }
};

template <class B>
inline void gemm_by_strips(const taille::GemmF32Args& g) {
  const int64_t k_total = g.taps * g.k;
  const GemmStrips<B> strips{g, k_total, taille::gemm_f32_strip_depth(k_total)};
  for (int64_t j = g.n_begin; j < g.n_end; j += 16) {
    int64_t begin = 0;
    do {  // at least once, for the epilogue
      const int64_t end = begin + strips.steps(begin);
      const bool last = end >= k_total;
      strips.run(g, g.k ? begin / g.k : 0, g.k ? begin % g.k : 0, j, begin, last ? j + 16 : j, last ? 0 : end);
      begin = end;
    } while (begin < k_total);
  }
}

// The same for rows that lie a multiple of 4 KiB apart and would share one set of L1: a block of the depth of them is
// copied too, and meets the same block of all strips.
template <class B>
inline void gemm_by_copied_rows(const taille::GemmF32Args& all) {
  const int64_t rows = all.m_end - all.m_begin, most = taille::kGemmF32CopiedRows;
  const int64_t blocks = (rows + most - 1) / most, tall = (rows + blocks - 1) / blocks;
  float* const copied = all.scratch + taille::gemm_f32_strip_depth(all.k) * 16;
  for (int64_t i = all.m_begin; i < all.m_end; i += tall) {
    taille::GemmF32Args g = all;
    g.m_begin = i;
    g.m_end = i + tall < all.m_end ? i + tall : all.m_end;
    const GemmStrips<B> strips{g, g.k, taille::gemm_f32_strip_depth(g.k)};
    taille::GemmF32Args block = g;
    block.a = copied - i * taille::kGemmF32CopiedRow;
    block.lda = taille::kGemmF32CopiedRow;
    for (int64_t begin = 0; begin < g.k; begin += block.k) {
      block.k = strips.steps(begin);
      for (int64_t r = i; r < g.m_end; ++r)
        __builtin_memcpy(copied + (r - i) * block.lda, g.a + r * g.lda + begin,
                         static_cast<size_t>(block.k) * sizeof(float));
      for (int64_t j = g.n_begin; j < g.n_end; j += 16) {
        const bool last = j + 16 >= g.n_end, end = last && begin + block.k >= g.k;
        strips.run(block, 0, 0, j, begin, end ? g.n_end : last ? g.n_begin : j + 16, last ? begin + block.k : begin);
      }
    }
  }
}

template <class B>
inline void gemm_narrow(const taille::GemmF32Args& g) {
  const bool one_set = g.offsets == nullptr && g.lda % taille::kGemmF32SetFloats == 0;
  if (one_set && taille::gemm_f32_copies_rows(g.k))
    gemm_by_copied_rows<B>(g);
  else
    gemm_by_strips<B>(g);
}

inline void gemm_run(const taille::GemmF32Args& g) {
  if constexpr (kTileVectors == 1) {
    if (g.m_end - g.m_begin > taille::kGemmF32DirectRows) {
      if (g.packed_type == taille::DType::f16) return gemm_narrow<taille::F16>(g);
      if (g.packed_type == taille::DType::bf16) return gemm_narrow<taille::BF16>(g);
      return gemm_narrow<float>(g);
    }
  }
  if (g.packed_type == taille::DType::f16) return gemm_half<taille::F16>(g);
  if (g.packed_type == taille::DType::bf16) return gemm_half<taille::BF16>(g);
  gemm_wide(g);
}

}  // namespace
