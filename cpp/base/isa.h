// CPU levels: what the kernels are built for, what this CPU (and its OS) can run, what the user forces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace taille {

// Each level contains those of its architecture before it.
// AArch64: `neon` = what every such CPU has; `neondot` = that + the int8 dot products of FEAT_DotProd (sdot, udot).
// x86-64: `avx2` = AVX2+FMA+F16C+BMI2; `avx512` = F+BW+DQ+VL; `avx512vnni` = that + VNNI, nothing more (some CPUs have
// VNNI without VBMI); `avx512vbmi` = that + VBMI; `amx` = that + AMX-TILE and AMX-INT8, where Linux grants this process
// their use.
enum class Isa : uint8_t { portable, neon, neondot, avx2, avx512, avx512vnni, avx512vbmi, amx };

std::string_view name_of(Isa level);

// The levels of the architecture that this is built for, lowest first.
std::vector<Isa> known_isas();

// The known level of that name; throws IsaError listing the known names.
Isa isa_from_name(std::string_view name);

// The registers that detection reads, apart from the reading so that any CPU can be tested.
struct CpuBits {
  uint32_t leaf1_ecx;
  uint32_t leaf7_ebx;
  uint32_t leaf7_ecx;
  uint32_t leaf7_edx;
  uint64_t xcr0;  // what the OS saves at a context switch; 0 without OSXSAVE
};
Isa isa_from_bits(const CpuBits& bits);
// The same for AArch64, from what Linux says of the CPU: AT_HWCAP.
Isa isa_from_hwcap(uint64_t hwcap);

// The best level this CPU has and whose registers the OS saves (XCR0), whatever TAILLE_ISA says. On a CPU with AMX the
// first call asks Linux for its use, which holds for the whole process.
Isa detect_isa();

// TAILLE_ISA where it is set (IsaError if unknown or above detect_isa()), else detect_isa(). Read once.
Isa active_isa();

// The level named `forced` (empty: `best`); throws IsaError if it is unknown or above `best`.
Isa choose_isa(std::string_view forced, Isa best);

// Throws IsaError unless this CPU can run `level`.
void require_isa(Isa level);

// Every level this CPU can run, lowest first.
std::vector<Isa> supported_isas();

// The CPU's own name ("Intel(R) Xeon(R) ..."), or "unknown".
std::string cpu_name();

}  // namespace taille
