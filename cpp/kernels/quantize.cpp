#include "kernels/quantize.h"

namespace taille {

void quantize_avx512(const QuantizeArgs&);
void quantize_avx2(const QuantizeArgs&);
void quantize_neon(const QuantizeArgs&);
void quantize_reference(const QuantizeArgs&);
void dequantize_avx512(const DequantizeArgs&);
void dequantize_avx2(const DequantizeArgs&);
void dequantize_neon(const DequantizeArgs&);
void dequantize_reference(const DequantizeArgs&);
void add_u8_avx512(const AddU8Args&);
void add_u8_avx2(const AddU8Args&);
void add_u8_neon(const AddU8Args&);
void add_u8_reference(const AddU8Args&);
void lookup_avx512vbmi(const LookupArgs&);
void lookup_avx512(const LookupArgs&);
void lookup_avx2(const LookupArgs&);
void lookup_reference(const LookupArgs&);
void observe_avx512(const ObserveArgs&);
void observe_avx2(const ObserveArgs&);
void observe_neon(const ObserveArgs&);
void observe_reference(const ObserveArgs&);
void histogram_reference(const HistogramArgs&);

// Where the compiler makes nothing better of plain loops than the reference, there is no portable row.

KernelTable<QuantizeArgs> quantize_table() {
  static constexpr KernelRow<QuantizeArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, quantize_avx512},
      {"avx2", Isa::avx2, quantize_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, quantize_neon},
#endif
      {"reference", Isa::portable, quantize_reference},
  };
  return rows;
}

KernelTable<DequantizeArgs> dequantize_table() {
  static constexpr KernelRow<DequantizeArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, dequantize_avx512},
      {"avx2", Isa::avx2, dequantize_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, dequantize_neon},
#endif
      {"reference", Isa::portable, dequantize_reference},
  };
  return rows;
}

KernelTable<AddU8Args> add_u8_table() {
  static constexpr KernelRow<AddU8Args> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, add_u8_avx512},
      {"avx2", Isa::avx2, add_u8_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, add_u8_neon},
#endif
      {"reference", Isa::portable, add_u8_reference},
  };
  return rows;
}

KernelTable<LookupArgs> lookup_table() {
  static constexpr KernelRow<LookupArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512vbmi", Isa::avx512vbmi, lookup_avx512vbmi},
      {"avx512", Isa::avx512, lookup_avx512},
      {"avx2", Isa::avx2, lookup_avx2},
#endif
      {"reference", Isa::portable, lookup_reference},
  };
  return rows;
}

KernelTable<ObserveArgs> observe_table() {
  static constexpr KernelRow<ObserveArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, observe_avx512},
      {"avx2", Isa::avx2, observe_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, observe_neon},
#endif
      {"reference", Isa::portable, observe_reference},
  };
  return rows;
}

KernelTable<HistogramArgs> histogram_table() {
  static constexpr KernelRow<HistogramArgs> rows[] = {
      {"reference", Isa::portable, histogram_reference},
  };
  return rows;
}

}  // namespace taille
