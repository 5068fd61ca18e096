// What the pools of threads ask of the system. Linux answers all of it; elsewhere what it does not offer is left out.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

namespace taille {

// Sleeps until `word` has another value, and wakes one that sleeps so. Whoever wakes has changed the word before.
void sleep_while(std::atomic<uint32_t>& word, uint32_t value);
void wake(std::atomic<uint32_t>& word);

// How many CPUs this process may use, 1 or more.
int allowed_cpus();

// The CPU that the caller runs on; -1 where the system does not tell.
int current_cpu();

// Leaves `thread` all CPUs that the caller may use but this one; false where none would be left, or it cannot be done.
bool keep_off_cpu(pthread_t thread, int cpu);

// The name that a debugger shows; at most 15 characters.
void name_thread(pthread_t thread, const char* name);

}  // namespace taille
