// A hash of 64 bits for tables in memory: about 10 bytes a cycle, and different for every seed, so that nobody who does
// not know the seed can choose bytes that collide. Neither stable between versions nor cryptographic.
#pragma once

#include <cstdint>
#include <span>

namespace taille {

uint64_t hash64(std::span<const uint8_t> bytes, uint64_t seed);

}  // namespace taille
