#include "base/os_threads.h"

#include <algorithm>

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#else
#include <thread>
#endif

namespace taille {

#if defined(__linux__)

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the futex needs the bare word");

// Raw futexes, as std::atomic::wait adds its own spinning.
void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  while (word.load(std::memory_order_acquire) == value)
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
void wake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

int allowed_cpus() {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {  // the kernel refuses a mask smaller than its own
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpus));
    if (!set) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    const int failed = sched_getaffinity(0, bytes, set);
    const int reason = errno;
    const int count = failed ? 0 : CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    if (!failed) return std::max(count, 1);
    if (reason != EINVAL) return 1;
  }
  return 1;
}

int current_cpu() { return sched_getcpu(); }

bool keep_off_cpu(pthread_t thread, int cpu) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  CPU_CLR(static_cast<size_t>(cpu), &allowed);
  return CPU_COUNT(&allowed) != 0 && pthread_setaffinity_np(thread, sizeof allowed, &allowed) == 0;
}

void name_thread(pthread_t thread, const char* name) { pthread_setname_np(thread, name); }

#else  // macOS: it knows no affinity, and a thread can name only itself

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) { word.wait(value, std::memory_order_acquire); }
void wake(std::atomic<uint32_t>& word) { word.notify_one(); }

int allowed_cpus() { return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1); }

int current_cpu() { return -1; }

bool keep_off_cpu(pthread_t, int) { return false; }

void name_thread(pthread_t, const char*) {}

#endif

}  // namespace taille
