// check_kernels LEVEL: every variant of the kernels that this CPU has gives the bits of the reference, on random
// arguments, beside inaccessible pages. Fails where this CPU's best level is not LEVEL.
//
// It needs no Python, so it runs under qemu-user, and is the same program on every architecture: the digests of what
// was wanted agree too.
#include <cstdio>
#include <string>

#include "base/thread_pool.h"
#include "check.h"

namespace {

using namespace taille;

// Bits as Linux's <asm/hwcap.h> has them.
bool levels_from_hwcap() {
  constexpr uint64_t kAsimd = 1u << 1, kAsimdDp = 1u << 20;
  return isa_from_hwcap(0) == Isa::portable && isa_from_hwcap(kAsimd) == Isa::neon &&
         isa_from_hwcap(kAsimd | kAsimdDp) == Isa::neondot && isa_from_hwcap(~kAsimdDp) == Isa::neon;
}

bool flushes_denormals() {
  volatile float least = 0x1p-126f, half = 0.5f;
  const bool before = least * half > 0;
  bool within = true;
  {
    const FlushDenormals flush;
    within = least * half > 0;
  }
  return before && !within && least * half > 0;
}

void everything(check::Checker& checker, uint64_t seed) {
  check::Random random(seed);
  check_products(checker, random);
  check_windows(checker, random);
  check_rows(checker, random);
  check_elements(checker, random);
  check_attention(checker, random);
}

}  // namespace

int main(int count, char** words) {
  const std::string wanted = count == 2 ? words[1] : "";
  const std::string found(name_of(detect_isa()));
  std::printf("%s: %s\n", cpu_name().c_str(), found.c_str());
  if (found != wanted) {
    std::printf("WRONG level: wanted '%s'\n", wanted.c_str());
    return 1;
  }
  if (!levels_from_hwcap() || !flushes_denormals()) {
    std::puts("WRONG levels from AT_HWCAP, or denormals");
    return 1;
  }
  check::Checker checker(detect_isa());
  {
    const FlushDenormals flush;  // as in every run of a model
    everything(checker, 1);
  }
  return checker.report() ? 0 : 1;
}
