#include "base/isa.h"

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace taille {
namespace {

constexpr bool has(uint64_t word, uint64_t bits) { return (word & bits) == bits; }
constexpr uint32_t bit(int n) { return uint32_t{1} << n; }

// What each architecture says in its own way: its levels, the best one of this CPU, the CPU's name.
#if defined(__x86_64__)

constexpr Isa kLevels[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512vnni, Isa::avx512vbmi, Isa::amx};

CpuBits read_cpu_bits() {
  CpuBits bits{};
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return bits;
  bits.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    bits.leaf7_ebx = ebx;
    bits.leaf7_ecx = ecx;
    bits.leaf7_edx = edx;
  }
  if (has(bits.leaf1_ecx, bit(27))) {  // OSXSAVE: without it xgetbv is an illegal instruction
    uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    bits.xcr0 = (uint64_t{high} << 32) | low;
  }
  return bits;
}

// Tiles are 8 KiB of state that Linux saves only for processes which asked; threads and children inherit the leave.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Isa best_level() {
  const Isa best = isa_from_bits(read_cpu_bits());
  return best == Isa::amx && !may_use_tiles() ? Isa::avx512vbmi : best;
}

std::string read_cpu_name() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; ++i)
    if (!__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]))
      return "unknown";
  char text[sizeof(words) + 1] = {};
  std::memcpy(text, words, sizeof(words));
  const std::string_view name(text);
  const size_t first = name.find_first_not_of(' ');
  if (first == std::string_view::npos) return "unknown";
  return std::string(name.substr(first, name.find_last_not_of(' ') - first + 1));
}

#elif defined(__aarch64__)

constexpr Isa kLevels[] = {Isa::portable, Isa::neon, Isa::neondot};

uint64_t read_hwcap() {
#if defined(__linux__)
  return getauxval(AT_HWCAP);
#else
  return 0;
#endif
}

Isa best_level() { return isa_from_hwcap(read_hwcap()); }

// These CPUs have numbers, no names: Arm's Neoverse N1 is implementer 0x41, part 0xd0c.
std::string read_cpu_name() {
  if (!has(read_hwcap(), bit(11))) return "unknown";  // Linux answers for registers that a process may not read
  uint64_t midr = 0;
  asm("mrs %0, midr_el1" : "=r"(midr));
  const auto hex = [](uint64_t number) {
    std::string digits;
    for (; number || digits.empty(); number /= 16) digits.insert(digits.begin(), "0123456789abcdef"[number % 16]);
    return "0x" + digits;
  };
  return "AArch64, implementer " + hex(midr >> 24 & 0xFF) + ", part " + hex(midr >> 4 & 0xFFF);
}

#else

constexpr Isa kLevels[] = {Isa::portable};
Isa best_level() { return Isa::portable; }
std::string read_cpu_name() { return "unknown"; }

#endif

constexpr Isa kHighest = kLevels[std::size(kLevels) - 1];

std::string joined_names(Isa up_to) {
  std::string out;
  for (Isa level : kLevels)
    if (level <= up_to) out.append(out.empty() ? "" : ", ").append(name_of(level));
  return out;
}

std::optional<Isa> find_level(std::string_view name) {
  for (Isa level : kLevels)
    if (name_of(level) == name) return level;
  return std::nullopt;
}

}  // namespace

std::string_view name_of(Isa level) {
  switch (level) {
    case Isa::portable:
      return "portable";
    case Isa::neon:
      return "neon";
    case Isa::neondot:
      return "neondot";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512vnni:
      return "avx512vnni";
    case Isa::avx512vbmi:
      return "avx512vbmi";
    case Isa::amx:
      return "amx";
  }
  return "?";
}

std::vector<Isa> known_isas() { return {std::begin(kLevels), std::end(kLevels)}; }

Isa isa_from_name(std::string_view name) {
  if (const auto level = find_level(name)) return *level;
  throw IsaError(concat("CPU level '", name, "' is not known; the known levels are ", joined_names(kHighest)));
}

Isa isa_from_bits(const CpuBits& bits) {
  constexpr uint64_t kSavesYmm = 0x06;  // SSE and AVX state
  constexpr uint64_t kSavesZmm = 0xe6;  // ... and opmask, upper halves of zmm0-15, zmm16-31
  const bool avx2 = has(bits.xcr0, kSavesYmm) && has(bits.leaf1_ecx, bit(12) | bit(28) | bit(29)) &&  // FMA AVX F16C
                    has(bits.leaf7_ebx, bit(5) | bit(8));                                             // AVX2 BMI2
  if (!avx2) return Isa::portable;
  const bool avx512 =
      has(bits.xcr0, kSavesZmm) && has(bits.leaf7_ebx, bit(16) | bit(17) | bit(30) | bit(31));  // F DQ BW VL
  if (!avx512) return Isa::avx2;
  if (!has(bits.leaf7_ecx, bit(11))) return Isa::avx512;
  if (!has(bits.leaf7_ecx, bit(1))) return Isa::avx512vnni;
  constexpr uint64_t kSavesTiles = 0x60000;  // tile configuration and tile data
  const bool amx = has(bits.xcr0, kSavesTiles) && has(bits.leaf7_edx, bit(24) | bit(25));  // AMX-TILE, AMX-INT8
  return amx ? Isa::amx : Isa::avx512vbmi;
}

Isa isa_from_hwcap(uint64_t hwcap) {
  if (!has(hwcap, bit(1))) return Isa::portable;          // ASIMD
  return has(hwcap, bit(20)) ? Isa::neondot : Isa::neon;  // ASIMDDP
}

Isa detect_isa() {
  static const Isa level = best_level();
  return level;
}

Isa choose_isa(std::string_view forced, Isa best) {
  if (forced.empty()) return best;
  const auto level = find_level(forced);
  if (level && *level <= best) return *level;
  throw IsaError(concat("CPU level '", forced, level ? "' is more than this CPU has" : "' is not known",
                        "; the known levels are ", joined_names(kHighest), "; this CPU (", cpu_name(), ") has ",
                        joined_names(best)));
}

Isa active_isa() {
  static const Isa level = [] {
    const char* forced = std::getenv("TAILLE_ISA");
    try {
      return choose_isa(forced ? forced : "", detect_isa());
    } catch (const IsaError& error) {
      throw IsaError(concat("TAILLE_ISA: ", error.what()));
    }
  }();
  return level;
}

void require_isa(Isa level) { choose_isa(name_of(level), detect_isa()); }

std::vector<Isa> supported_isas() {
  std::vector<Isa> out;
  for (Isa level : kLevels)
    if (level <= detect_isa()) out.push_back(level);
  return out;
}

std::string cpu_name() { return read_cpu_name(); }

}  // namespace taille
