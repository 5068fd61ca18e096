// How many threads this process was granted. A container's quota is in its cgroup, which std::thread's
// hardware_concurrency() does not see; more threads than that are throttled together, which costs more than it gives.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/os_threads.h"
#include "base/thread_pool.h"

namespace taille {
namespace {

struct Quota {
  double cpus;
  std::string file;
};

std::vector<std::string> words_of(const std::string& file) {
  std::ifstream in(file);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::optional<double> positive_number(const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (end == word.c_str() || *end != '\0' || !(value > 0) || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<Quota> quota_v2(const std::string& folder) {
  const std::string file = folder + "/cpu.max";
  const auto words = words_of(file);  // "150000 100000" or "max 100000"
  if (words.size() != 2) return std::nullopt;
  const auto quota = positive_number(words[0]), period = positive_number(words[1]);
  if (!quota || !period) return std::nullopt;
  return Quota{*quota / *period, file};
}

std::optional<Quota> quota_v1(const std::string& folder) {
  const std::string file = folder + "/cpu.cfs_quota_us";
  const auto quota_words = words_of(file), period_words = words_of(folder + "/cpu.cfs_period_us");
  if (quota_words.size() != 1 || period_words.size() != 1) return std::nullopt;
  const auto quota = positive_number(quota_words[0]), period = positive_number(period_words[0]);  // -1: no limit
  if (!quota || !period) return std::nullopt;
  return Quota{*quota / *period, file};
}

// The least quota of `path` and of every folder above it up to `mount`. Folders that are not there are passed over:
// a container may see the host's path in /proc but only its own subtree, mounted at the root.
void take_least(std::optional<Quota>& least, const std::string& mount, std::string path,
                std::optional<Quota> (*read)(const std::string&)) {
  if (path.find("..") != std::string::npos) path.clear();  // outside this cgroup namespace
  while (true) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    const auto quota = read(mount + path);
    if (quota && (!least || quota->cpus < least->cpus)) least = quota;
    if (path.empty()) return;
    path.erase(std::min(path.rfind('/'), path.size()));
  }
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream in(controllers);
  for (std::string one; std::getline(in, one, ',');)
    if (one == "cpu") return true;
  return false;
}

std::optional<Quota> least_quota(const std::string& proc_root, const std::string& cgroup_root) {
  std::optional<Quota> least;
  std::ifstream in(proc_root + "/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      take_least(least, cgroup_root, path, quota_v2);
      take_least(least, cgroup_root + "/unified", path, quota_v2);
    } else if (lists_cpu(controllers)) {
      take_least(least, cgroup_root + "/" + controllers, path, quota_v1);
      if (controllers != "cpu") take_least(least, cgroup_root + "/cpu", path, quota_v1);
    }
  }
  return least;
}

// OMP_NUM_THREADS is a number or a list with one number per nesting level, of which the first is meant here.
std::optional<int> omp_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (!text) return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  while (end != text && (*end == ' ' || *end == '\t')) ++end;
  if (end == text || (*end != '\0' && *end != ',') || value < 1) return std::nullopt;
  return static_cast<int>(std::min<long>(value, std::numeric_limits<int>::max()));
}

}  // namespace

ThreadGrant granted_threads(const std::string& proc_root, const std::string& cgroup_root) {
  const int cpus = allowed_cpus();
  ThreadGrant grant{cpus, concat("CPU affinity allows ", cpus, cpus == 1 ? " CPU" : " CPUs")};
  if (const auto quota = least_quota(proc_root, cgroup_root)) {
    const double rounded = std::ceil(quota->cpus);
    if (rounded < grant.threads) {
      grant.threads = std::max(static_cast<int>(rounded), 1);
      grant.reason =
          concat("the cgroup CPU quota allows ", quota->cpus, " of ", cpus, " CPUs (", quota->file, "), rounded up");
    }
  }
  if (const auto omp = omp_threads(); omp && *omp < grant.threads) {
    grant.threads = *omp;
    grant.reason = concat("OMP_NUM_THREADS asks for ", *omp, " of ", cpus, " CPUs");
  }
  return grant;
}

}  // namespace taille
