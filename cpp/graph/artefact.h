// One file: valid safetensors. Tensors are the graph's constants (named by their values); __metadata__ holds
//   "taille.format"  "1"
//   "taille.graph"   the graph as JSON (see artefact.cpp), without the constants' data
//   "taille.crc32c"  8 hex digits: CRC-32C over the graph text, then the tensor data section
//   "taille.metadata" free JSON of the Python side (recipe, metrics, lineage), or absent; not covered by checks of ours
// The loader trusts nothing; every failure is an ArtefactError that names the path and what is wrong.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "graph/graph.h"

namespace taille {

struct Artefact {
  Graph graph;
  std::string metadata;  // JSON text, or ""
};

// Bytes of the file for this graph. Throws std::invalid_argument for a graph that could not be loaded again.
std::string serialize(const Graph& graph, const std::string& metadata);
Artefact deserialize(std::span<const uint8_t> bytes, const std::string& name);

// Written beside, fsynced, renamed: the old file or the new one, never half of one. Returns the bytes written.
// Throws as serialize does, and std::filesystem::filesystem_error where the system refuses.
int64_t save_artefact(const std::string& path, const Graph& graph, const std::string& metadata);
Artefact load_artefact(const std::string& path);

}  // namespace taille
