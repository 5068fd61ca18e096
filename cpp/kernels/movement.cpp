#include "kernels/movement.h"

namespace taille {

void copy_avx2(const CopyArgs&);
void copy_portable(const CopyArgs&);
void copy_reference(const CopyArgs&);
void embedding_portable(const EmbeddingArgs&);
void embedding_reference(const EmbeddingArgs&);
void embedding_s8_reference(const EmbeddingS8Args&);

KernelTable<CopyArgs> copy_table() {
  static constexpr KernelRow<CopyArgs> rows[] = {
#if defined(__x86_64__)
      {"avx2", Isa::avx2, copy_avx2},
#endif
      {"portable", Isa::portable, copy_portable},
      {"reference", Isa::portable, copy_reference},
  };
  return rows;
}

KernelTable<EmbeddingArgs> embedding_table() {
  static constexpr KernelRow<EmbeddingArgs> rows[] = {
      {"portable", Isa::portable, embedding_portable},
      {"reference", Isa::portable, embedding_reference},
  };
  return rows;
}

// The compiler makes vectors of the plain loop.
KernelTable<EmbeddingS8Args> embedding_s8_table() {
  static constexpr KernelRow<EmbeddingS8Args> rows[] = {
      {"reference", Isa::portable, embedding_s8_reference},
  };
  return rows;
}

}  // namespace taille
