#include "kernels/gemm_f32.h"

namespace taille {

void gemm_f32_avx512(const GemmF32Args&);
void gemm_f32_avx2(const GemmF32Args&);
void gemm_f32_neon(const GemmF32Args&);
void gemm_f32_portable(const GemmF32Args&);
void gemm_f32_reference(const GemmF32Args&);

int64_t gemm_f32_packed_elements(int64_t n, int64_t k_total) { return (n + 15) / 16 * 16 * k_total; }

template <class T>
static void pack(const T* w, int64_t stride_n, int64_t stride_k, int64_t n, int64_t k_total, T* packed) {
  for (int64_t panel = 0; panel < n; panel += 64) {
    const int64_t columns = n - panel < 64 ? n - panel : 64;
    const int64_t width = (columns + 15) / 16 * 16;
    for (int64_t p = 0; p < k_total; ++p)
      for (int64_t j = 0; j < width; ++j) *packed++ = j < columns ? w[(panel + j) * stride_n + p * stride_k] : T{};
  }
}

void gemm_f32_pack(DType type, const void* w, int64_t stride_n, int64_t stride_k, int64_t n, int64_t k_total,
                   void* packed) {
  if (is_half(type))
    pack(static_cast<const F16*>(w), stride_n, stride_k, n, k_total, static_cast<F16*>(packed));  // bits are moved
  else
    pack(static_cast<const float*>(w), stride_n, stride_k, n, k_total, static_cast<float*>(packed));
}

KernelTable<GemmF32Args> gemm_f32_table() {
  static constexpr KernelRow<GemmF32Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, gemm_f32_avx512},
      {"avx2", Isa::avx2, gemm_f32_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, gemm_f32_neon},
#endif
      {"portable", Isa::portable, gemm_f32_portable},
      {"reference", Isa::portable, gemm_f32_reference},
  };
  return rows;
}

}  // namespace taille
