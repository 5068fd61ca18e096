#include "kernels/gemm_s8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace taille {

void gemm_s8_amx(const GemmS8Args&);
void gemm_s8_avx512vnni(const GemmS8Args&);
void gemm_s8_avx512(const GemmS8Args&);
void gemm_s8_avx2(const GemmS8Args&);
void gemm_s8_neondot(const GemmS8Args&);
void gemm_s8_portable(const GemmS8Args&);
void gemm_s8_reference(const GemmS8Args&);

namespace {

constexpr int64_t kPanel = 64;
constexpr int64_t kGatherRows = 96;                // of AMX; the others take 48
constexpr int64_t kTileBytes = 64;                 // of K
constexpr int64_t kWidenedBytes = 192 * 1024;      // of rows in a block, which stay in L2
constexpr int64_t kWorkBytes = (32 + 3) * 64 * 4;  // of AMX: sums, constants

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

}  // namespace

// The panels, and what a tile of AMX reads beyond the last one: less than 16 groups of 64 columns.
int64_t gemm_s8_packed_bytes(int64_t n, int64_t k_total) {
  return round_up(n, 16) * round_up(k_total, 4) + (kTileBytes - 4) * kPanel;
}

int64_t gemm_s8_widened_plane(int64_t k_total) { return round_up(round_up(k_total, 4) + 32, 32); }

int64_t gemm_s8_widened_rows(int64_t k_total) {
  return std::clamp<int64_t>(kWidenedBytes / (2 * gemm_s8_widened_plane(k_total)), 48, 240);
}

// Sums, gathered rows, and room for the last vector store to run over; or widened rows, one gathered, 16 columns.
int64_t gemm_s8_scratch_bytes(int64_t k_total) {
  const int64_t gathered = kWorkBytes + kGatherRows * (round_up(k_total, kTileBytes) + 64) + 64;
  const int64_t widened =
      (2 * gemm_s8_widened_rows(k_total) + 1) * gemm_s8_widened_plane(k_total) + 32 * round_up(k_total, 4);
  return std::max(gathered, widened);
}

bool gemm_s8_bounded(const GemmS8Args& g) {
  const double most = 255.0 * 128.0 * static_cast<double>(g.taps * g.k);
  bool bounded = true;
  for (int64_t j = 0; j < g.n; ++j) {
    const double value =
        (most + std::abs(static_cast<double>(g.offset[j]))) * std::abs(static_cast<double>(g.scale[j]));
    bounded &= value + std::abs(static_cast<double>(g.bias[j])) + 255.0 * std::abs(g.residual_scale) < 0x1p30;
  }
  return bounded;
}

void gemm_s8_pack(const int8_t* w, int64_t n, int64_t k_total, int8_t* packed) {
  const int64_t padded = round_up(k_total, 4);
  std::memset(packed, 0, static_cast<size_t>(gemm_s8_packed_bytes(n, k_total)));
  for (int64_t j = 0; j < n; ++j) {
    const int64_t panel = j / kPanel * kPanel, width = std::min(kPanel, round_up(n - panel, 16));
    int8_t* column = packed + panel * padded + (j - panel) * 4;
    for (int64_t p = 0; p < k_total; ++p) column[p / 4 * width * 4 + p % 4] = w[j * k_total + p];
  }
}

bool gemm_s8_pairs_fit(const int8_t* packed, int64_t n, int64_t k_total) {
  const auto adds_up = [](int a, int b) { return std::max(a + b, -(a + b)) > kS8PairLimit; };
  const int64_t bytes = round_up(n, 16) * round_up(k_total, 4);
  for (int64_t i = 0; i < bytes; i += 2)
    if (adds_up(packed[i], packed[i + 1])) return false;
  return true;
}

KernelTable<GemmS8Args> gemm_s8_table() {
  static constexpr KernelRow<GemmS8Args> rows[] = {
#if defined(__x86_64__)
      {"amx", Isa::amx, gemm_s8_amx},
      {"avx512vnni", Isa::avx512vnni, gemm_s8_avx512vnni},
      {"avx512", Isa::avx512, gemm_s8_avx512},
      {"avx2", Isa::avx2, gemm_s8_avx2},
#elif defined(__aarch64__)
      {"neondot", Isa::neondot, gemm_s8_neondot},
#endif
      {"portable", Isa::portable, gemm_s8_portable},
      {"reference", Isa::portable, gemm_s8_reference},
  };
  return rows;
}

}  // namespace taille
