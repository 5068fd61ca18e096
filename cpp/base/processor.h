// What processors of each architecture have instructions of their own for, but vectors (kernels/) and levels (isa.h).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace taille {

#if defined(__x86_64__)

// A moment's rest in a loop that waits for another thread.
inline void spin_pause() { _mm_pause(); }

// How this thread's floats are rounded and flushed.
using FloatMode = unsigned;
inline constexpr FloatMode kFlushDenormals = 0x8040;  // MXCSR: FTZ and DAZ
inline FloatMode float_mode() { return _mm_getcsr(); }
inline void set_float_mode(FloatMode mode) { _mm_setcsr(mode); }

#elif defined(__aarch64__)

inline void spin_pause() { asm volatile("isb" ::: "memory"); }  // yield does nothing on most of these CPUs

using FloatMode = uint64_t;
inline constexpr FloatMode kFlushDenormals = FloatMode{1} << 24;  // FPCR: FZ, of operands and results
inline FloatMode float_mode() {
  FloatMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
inline void set_float_mode(FloatMode mode) { asm volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }

#else

inline void spin_pause() {}

using FloatMode = unsigned;
inline constexpr FloatMode kFlushDenormals = 0;  // they stay: right, and slower where there are any
inline FloatMode float_mode() { return 0; }
inline void set_float_mode(FloatMode) {}

#endif

}  // namespace taille
