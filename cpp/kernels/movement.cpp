#include "kernels/movement.h"

namespace taille {

void copy_portable(const CopyArgs&);
void copy_reference(const CopyArgs&);
void embedding_portable(const EmbeddingArgs&);
void embedding_reference(const EmbeddingArgs&);

KernelTable<CopyArgs> copy_table() {
  static constexpr KernelRow<CopyArgs> rows[] = {
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

}  // namespace taille
