#include "runtime/batch_cost.h"

#include <algorithm>
#include <iterator>

namespace taille {

void BatchCost::learn(int64_t samples, double seconds) {
  constexpr uint32_t kSettled = 8;     // runs after which the mean moves by 1/8 of the difference
  constexpr double kMostOfOneRun = 4;  // a run that was interrupted says little
  auto known = means_.find(samples);
  if (known == means_.end()) {
    if (means_.size() < kMaxSizes) means_.emplace(samples, Mean{seconds, 1});
    return;
  }
  Mean& mean = known->second;
  if (mean.runs < kSettled) ++mean.runs;
  if (mean.runs == 2) {  // the first of a size finds its memory untouched
    mean.seconds = std::min(mean.seconds, seconds);
    return;
  }
  if (mean.runs == kSettled) seconds = std::min(seconds, kMostOfOneRun * mean.seconds);
  mean.seconds += (seconds - mean.seconds) / mean.runs;
}

double BatchCost::seconds(int64_t samples) const {
  if (means_.empty()) return 0;
  const auto above = means_.lower_bound(samples);
  if (above == means_.begin()) return above->second.seconds;
  const auto below = std::prev(above);
  const double gone = static_cast<double>(samples), under = static_cast<double>(below->first);
  if (above == means_.end()) return below->second.seconds * gone / under;
  const double share = (gone - under) / (static_cast<double>(above->first) - under);
  return below->second.seconds + share * (above->second.seconds - below->second.seconds);
}

BatchCost::Line BatchCost::line() const {
  if (means_.size() < 2) return {};
  const auto& [few, low] = *means_.begin();
  auto largest = means_.rbegin();  // that ran more than once, or else of all
  while (largest->second.runs < 2 && largest->first != few) ++largest;
  if (largest->first == few) largest = means_.rbegin();
  const auto& [many, high] = *largest;
  const double each = std::max(0.0, (high.seconds - low.seconds) / static_cast<double>(many - few));
  return {std::max(0.0, low.seconds - each * static_cast<double>(few)), each};
}

void BatchCost::relax() {
  for (auto& [samples, mean] : means_) mean.seconds *= 0.95;
}

}  // namespace taille
