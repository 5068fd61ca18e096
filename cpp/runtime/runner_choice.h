// How a batcher runs a model best on a CPU: measured by `taille tune`, kept in the artefact's metadata by CPU.
// python/taille/runner_choice.py writes it, and says the same to Python.
#pragma once

#include <optional>
#include <string>

#include "graph/json.h"
#include "runtime/batcher.h"

namespace taille {

// What a choice hangs on: the CPU's name, the level of the kernels, and how many threads are granted.
std::string this_cpu();

// The choice that an artefact's metadata holds for this CPU; none where there is none or it makes no sense here, for a
// model of so many threads.
std::optional<BatcherOptions> stored_choice(const Json& metadata, int threads);

}  // namespace taille
