#include "bindings/bindings.h"

PYBIND11_MODULE(_native, m) {
  m.doc() = "The native engine of taille.";
  taille::bind_base(m);
  auto kernels = m.def_submodule("kernels", "Single kernel variants, for tests and benchmarks.");
  taille::bind_kernels_int8(kernels);
  taille::bind_kernels_f32(kernels);
  taille::bind_graph(m);
  taille::bind_half(m);
  taille::bind_pruning_mask(m);
  taille::bind_artefact(m);
  taille::bind_cache(m);
  taille::bind_runtime(m);
  taille::bind_batcher(m);
  taille::bind_quantization(m);
  auto testing = m.def_submodule("testing", "Parts without a public name, for their tests.");
  taille::bind_testing(testing);
  taille::bind_testing_batcher(testing);
}
