#include "kernels/elementwise.h"

namespace taille {

void unary_avx512(const UnaryArgs&);
void unary_avx2(const UnaryArgs&);
void unary_neon(const UnaryArgs&);
void unary_portable(const UnaryArgs&);
void unary_reference(const UnaryArgs&);
void binary_avx512(const BinaryArgs&);
void binary_avx2(const BinaryArgs&);
void binary_neon(const BinaryArgs&);
void binary_portable(const BinaryArgs&);
void binary_reference(const BinaryArgs&);

KernelTable<UnaryArgs> unary_table() {
  static constexpr KernelRow<UnaryArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, unary_avx512},
      {"avx2", Isa::avx2, unary_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, unary_neon},
#endif
      {"portable", Isa::portable, unary_portable},
      {"reference", Isa::portable, unary_reference},
  };
  return rows;
}

KernelTable<BinaryArgs> binary_table() {
  static constexpr KernelRow<BinaryArgs> rows[] = {
#if defined(__x86_64__)
      {"avx512", Isa::avx512, binary_avx512},
      {"avx2", Isa::avx2, binary_avx2},
#elif defined(__aarch64__)
      {"neon", Isa::neon, binary_neon},
#endif
      {"portable", Isa::portable, binary_portable},
      {"reference", Isa::portable, binary_reference},
  };
  return rows;
}

}  // namespace taille
