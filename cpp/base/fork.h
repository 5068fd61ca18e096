// A child of fork() has none of its parent's threads, and locks that they held stay held. What owns threads remembers
// the generation in which it started them: where another one is current, they are the parent's, and are forgotten.
#pragma once

#include <cstdint>

namespace taille {

// How often this process has been forked off since taille first asked, plus 1.
uint32_t fork_generation();

}  // namespace taille
