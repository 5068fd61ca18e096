#include "runtime/runner_choice.h"

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/isa.h"
#include "base/thread_pool.h"

namespace taille {

namespace {

// As Batcher takes them.
constexpr int kMostStreams = 256;
constexpr int64_t kMostBatch = 65536;
constexpr double kMostSeconds = 3600;

std::optional<int64_t> count_of(const Json& entry, std::string_view name, int64_t most) {
  const Json* found = entry.find(name);
  const auto* number = found != nullptr ? found->get_if<int64_t>() : nullptr;
  return number != nullptr && *number >= 1 && *number <= most ? std::optional(*number) : std::nullopt;
}

std::optional<double> seconds_of(const Json& entry, std::string_view name) {
  const Json* found = entry.find(name);
  if (found == nullptr) return {};
  double seconds = -1;
  if (const auto* number = found->get_if<double>()) seconds = *number;
  if (const auto* whole = found->get_if<int64_t>()) seconds = static_cast<double>(*whole);
  return seconds >= 0 && seconds <= kMostSeconds ? std::optional(seconds) : std::nullopt;
}

}  // namespace

std::string this_cpu() {
  const int threads = granted_threads().threads;
  return concat(cpu_name(), ", ", name_of(active_isa()), ", ", threads, threads > 1 ? " threads" : " thread");
}

std::optional<BatcherOptions> stored_choice(const Json& metadata, int granted) {
  const Json* by_cpu = metadata.find("inference");
  const Json* entry = by_cpu != nullptr ? by_cpu->find(this_cpu()) : nullptr;
  if (entry == nullptr) return {};
  const auto streams = count_of(*entry, "streams", std::min(granted, kMostStreams));
  const auto threads = count_of(*entry, "threads", granted);
  const auto max_batch = count_of(*entry, "max_batch", kMostBatch);
  const auto timeout = seconds_of(*entry, "timeout"), max_latency = seconds_of(*entry, "max_latency");
  if (!streams || !threads || !max_batch || !timeout || !max_latency) return {};
  if (*max_latency == 0 || *streams * *threads > granted) return {};
  BatcherOptions out;
  out.streams = static_cast<int>(*streams);
  out.threads = static_cast<int>(*threads);
  out.max_batch = *max_batch;
  out.timeout = *timeout;
  out.max_latency = *max_latency;
  return out;
}

}  // namespace taille
