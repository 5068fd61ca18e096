// run_cpp MODEL THREADS INPUTS OUTPUTS: as run_c, from several threads at once, all of which must get the same.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <taille/taille.hpp>
#include <thread>

#include "checks.hpp"

namespace {

size_t element_bytes(int32_t dtype) {
  return dtype == TAILLE_INT64 ? 8 : dtype == TAILLE_FLOAT32 || dtype == TAILLE_INT32 ? 4 : 1;
}

void tell(const char* what, const taille::TensorInfo& info) {
  std::cout << what << ' ' << info.name << ' ' << info.dtype;
  for (size_t i = 0; i < info.dims.size(); ++i) std::cout << ' ' << info.dim_names[i] << '=' << info.dims[i];
  std::cout << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 4;
  taille::Model first(argv[1], std::atoi(argv[2]));
  taille::Model model = std::move(first);
  std::vector<std::vector<char>> memory;
  std::vector<taille::View> inputs;
  std::ifstream file(argv[3], std::ios::binary);
  for (const taille::TensorInfo& info : model.inputs()) {
    tell("input", info);
    int64_t rank = 0;
    file.read(reinterpret_cast<char*>(&rank), sizeof rank);
    std::vector<int64_t> dims(static_cast<size_t>(rank));
    file.read(reinterpret_cast<char*>(dims.data()), static_cast<std::streamsize>(dims.size() * sizeof(int64_t)));
    size_t bytes = element_bytes(info.dtype);
    for (int64_t d : dims) bytes *= static_cast<size_t>(d);
    memory.emplace_back(bytes);
    file.read(memory.back().data(), static_cast<std::streamsize>(bytes));
    inputs.emplace_back(memory.back().data(), bytes, info.dtype, dims);
  }
  if (!file) return 6;

  const std::vector<taille::Tensor> alone = model.run(inputs);
  std::vector<std::thread> threads;
  std::vector<char> agrees(4, 1);
  for (size_t t = 0; t < agrees.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        if (t == 0 && i % 7 == 0) model.release();
        agrees[t] = agrees[t] && same(model.run(inputs), alone);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (char agreed : agrees)
    if (!agreed) return 7;

  // Errors are exceptions with a status and a text; into memory that is too small is one.
  if (status_of([&] { first.run(inputs); }) != TAILLE_INVALID_ARGUMENT) return 8;
  if (status_of([&] { model.run({}); }) != TAILLE_INVALID_ARGUMENT) return 9;
  if (status_of([] { taille::Model("there is no such file"); }) != TAILLE_ARTEFACT_ERROR) return 10;
  if (status_of([&] { model.run(inputs, std::vector<taille::View>(model.outputs().size(), {nullptr, 0, 0, {}})); }) !=
      TAILLE_INVALID_ARGUMENT)
    return 11;

  // From the cache, the same; and each into memory of its own.
  model.set_cache(1 << 20);
  for (int i = 0; i < 3; ++i)
    if (!same(model.run(inputs), alone)) return 13;
  if (model.cache_stats().misses != 1 || model.cache_stats().hits != 2) return 14;
  model.set_cache(0);
  if (!same(model.run(inputs), alone) || model.cache_stats().entries != 0) return 15;

  std::vector<taille::Tensor> again = model.run(inputs);
  std::vector<taille::View> into;
  for (const taille::Tensor& one : again) into.push_back(one.view());
  model.run(inputs, into);
  std::ofstream out(argv[4], std::ios::binary);
  for (size_t i = 0; i < again.size(); ++i) {
    tell("output", model.outputs()[i]);
    const std::vector<int64_t> dims = again[i].dims();
    const auto rank = static_cast<int64_t>(dims.size());
    out.write(reinterpret_cast<const char*>(&rank), sizeof rank);
    out.write(reinterpret_cast<const char*>(dims.data()), static_cast<std::streamsize>(dims.size() * sizeof(int64_t)));
    out.write(static_cast<const char*>(into[i].c().data), static_cast<std::streamsize>(again[i].bytes()));
  }
  return out.flush() ? 0 : 12;
}
