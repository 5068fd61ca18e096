#include "runtime/batch_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace taille {

namespace {

// A deadline is held with this much to spare: what a batch costs varies, and the reply has a way to go.
constexpr double kSpare = 1.25;
constexpr double kLeastWait = 2e-6;  // seconds: shorter waits cost more than they bring
constexpr double kTelling = 2e-5;    // seconds that each batch costs beside its run: to wake a worker, and to tell
constexpr BatchTime kNever = BatchTime::max();

double in_seconds(BatchTime::duration d) { return std::chrono::duration<double>(d).count(); }

// Takes the time since `last` into the moving mean.
void note_arrival(BatchTime& last, double& mean, BatchTime now) {
  if (last != BatchTime{}) {
    constexpr double kWeight = 0.125;
    const double gap = in_seconds(now - last);
    mean += mean == 0 ? gap : kWeight * (gap - mean);
  }
  last = now;
}

}  // namespace

BatchQueue::Group* BatchQueue::find(const Key& key) {
  const auto known = groups_.find(key);
  return known == groups_.end() ? nullptr : &known->second;
}

void BatchQueue::push(Requests& one, const Key& key, BatchTime now) {
  Group* group = find(key);
  if (!group) {
    forget_idle_shapes();
    group = &groups_[key];
  }
  Group::Level& level = group->levels[one.front().priority];
  level.waiting.splice(level.waiting.end(), one, one.begin());
  const auto at = std::prev(level.waiting.end());
  positions_.emplace(at->id, Position{group, at->priority, at});
  level.samples += at->samples;
  group->samples += at->samples;
  note_arrival(group->last_arrival, group->gap, now);
  note_arrival(last_arrival_, gap_, now);
}

double BatchQueue::all_to_come(const Group& group) const {
  constexpr double kFull = 0.95;
  double waiting = 0;
  for (const auto& [key, other] : groups_) waiting += static_cast<double>(other.samples);
  const BatchCost::Line line = group.cost.line();
  const double load = gap_ == 0 ? 0 : (line.fixed + line.each) / (gap_ * limits_.streams);
  const double coming = load >= kFull ? std::numeric_limits<double>::infinity() : waiting * load / (1 - load);
  return waiting + coming;
}

void BatchQueue::forget_idle_shapes() {
  if (groups_.size() < kMaxShapes) return;
  auto oldest = groups_.end();
  for (auto g = groups_.begin(); g != groups_.end(); ++g)
    if (g->second.levels.empty() && g->second.on_streams == 0 &&
        (oldest == groups_.end() || g->second.last_arrival < oldest->second.last_arrival))
      oldest = g;
  if (oldest != groups_.end()) groups_.erase(oldest);
}

BatchQueue::Requests BatchQueue::remove(uint64_t id) {
  Requests out;
  const auto found = positions_.find(id);
  if (found == positions_.end()) return out;
  const auto [group, priority, at] = found->second;
  const auto level = group->levels.find(priority);
  group->samples -= at->samples;
  level->second.samples -= at->samples;
  out.splice(out.end(), level->second.waiting, at);
  if (level->second.waiting.empty()) group->levels.erase(level);
  positions_.erase(found);
  return out;
}

BatchQueue::Requests BatchQueue::remove_all() {
  Requests out;
  for (auto& [key, group] : groups_) {
    for (auto& [priority, level] : group.levels) out.splice(out.end(), level.waiting);
    group.levels.clear();
    group.samples = 0;
  }
  positions_.clear();
  return out;
}

BatchTime BatchQueue::closes(const Group& group, BatchTime now) const {
  if (group.samples >= limits_.max_batch) return now;
  const BatchCost::Line line = group.cost.line();
  const double patience = (line.fixed + line.each) / static_cast<double>(group.samples + 1) - line.each;
  if (patience < kLeastWait || group.gap == 0 || group.gap > patience) return now;
  BatchTime oldest = kNever, deadline = kNever;
  for (const auto& [priority, level] : group.levels) {
    oldest = std::min(oldest, level.waiting.front().arrival);
    for (const Request& r : level.waiting) deadline = std::min(deadline, r.deadline);
  }
  const BatchTime bored = group.last_arrival + batch_seconds(patience);
  const BatchTime late = deadline - batch_seconds(kSpare * group.cost.seconds(group.samples));
  return std::max(now, std::min({bored, late, oldest + batch_seconds(limits_.timeout)}));
}

BatchTime BatchQueue::overdue_since(const Group& group, BatchTime now) const {
  if (taken_ % kTurns != kTurns - 1) return kNever;
  BatchTime since = kNever;
  for (const auto& [priority, level] : group.levels) since = std::min(since, level.waiting.front().arrival);
  return in_seconds(now - since) > limits_.max_latency ? since : kNever;
}

BatchQueue::Next BatchQueue::next(BatchTime now, bool hurry) const {
  Next best;
  int best_priority = 0;
  BatchTime best_arrival{}, best_overdue = kNever;
  for (const auto& [key, group] : groups_) {
    if (group.levels.empty()) continue;
    const BatchTime when = hurry ? now : closes(group, now);
    const int priority = group.levels.begin()->first;
    const BatchTime arrival = group.levels.begin()->second.waiting.front().arrival;
    const BatchTime overdue = overdue_since(group, now);
    const bool sooner = when != best.when           ? when < best.when
                        : overdue != best_overdue   ? overdue < best_overdue
                        : priority != best_priority ? priority > best_priority
                                                    : arrival < best_arrival;
    if (best.group && !sooner) continue;
    best = {const_cast<Group*>(&group), when};
    best_overdue = overdue;
    best_priority = priority;
    best_arrival = arrival;
  }
  return best;
}

BatchQueue::Next BatchQueue::next_of(uint64_t id, BatchTime now) const {
  const auto found = positions_.find(id);
  if (found == positions_.end()) return {};
  return {found->second.group, closes(*found->second.group, now)};
}

BatchQueue::Batch BatchQueue::take(Group* group, BatchTime now) {
  Batch batch{group, {}, {}, 0, now};
  BatchTime deadline = kNever;
  auto in_time = [&](int64_t samples, BatchTime until) {
    return now + batch_seconds(group->cost.seconds(samples)) <= until;
  };
  const BatchCost::Line line = group->cost.line();
  const double waiting = all_to_come(*group);
  // Whether the first of a level left it: into the batch, or to those that are given up.
  auto left = [&](Group::Level& level) {
    Request& r = level.waiting.front();
    const bool hopeless = r.promised && !in_time(r.samples, r.deadline);
    if (!hopeless && !batch.requests.empty()) {
      const int64_t grown = batch.samples + r.samples;
      const bool pays = line.each == 0 || (line.fixed + kTelling) * (waiting - static_cast<double>(batch.samples)) >
                                              line.each * static_cast<double>(r.samples * batch.samples);
      const bool threatens = in_time(batch.samples, deadline) && !in_time(grown, std::min(deadline, r.deadline));
      if (grown > limits_.max_batch || threatens || !pays) return false;
    }
    group->samples -= r.samples;
    level.samples -= r.samples;
    positions_.erase(r.id);
    Requests& to = hopeless ? batch.expired : batch.requests;
    if (!hopeless) {
      batch.samples += r.samples;
      deadline = std::min(deadline, r.deadline);
    }
    to.splice(to.end(), level.waiting, level.waiting.begin());
    return true;
  };
  if (const BatchTime since = overdue_since(*group, now); since != kNever) {
    const auto first = std::ranges::find_if(
        group->levels, [&](const auto& level) { return level.second.waiting.front().arrival == since; });
    left(first->second);
    if (first->second.waiting.empty()) group->levels.erase(first);
  }
  for (auto level = group->levels.begin(); level != group->levels.end(); level = group->levels.erase(level)) {
    while (!level->second.waiting.empty() && left(level->second)) {
    }
    if (!level->second.waiting.empty()) break;
  }
  if (batch.requests.empty()) return batch;
  ++taken_;
  batch.end = now + batch_seconds(group->cost.seconds(batch.samples));
  ++group->on_streams;
  running_.push_back(batch.end);
  return batch;
}

void BatchQueue::ran(Group* group, BatchTime end, std::optional<double> seconds, int64_t samples) {
  --group->on_streams;
  running_.erase(std::ranges::find(running_, end));
  if (seconds) group->cost.learn(samples, *seconds);
}

double BatchQueue::seconds_to_done(const Key& key, int64_t samples, int priority, BatchTime now) const {
  const auto known = groups_.find(key);
  if (known == groups_.end()) return 0;
  // The batches before it, of its own group those that are full; then its own.
  double before = 0, own = 0;
  for (const auto& [other, group] : groups_) {
    int64_t ahead = 0;
    for (const auto& [level, waiting] : group.levels)
      if (level >= priority) ahead += waiting.samples;
    const int64_t full = ahead / limits_.max_batch, rest = ahead % limits_.max_batch;
    before += static_cast<double>(full) * group.cost.seconds(limits_.max_batch);
    if (&group == &known->second) {
      const bool joins = rest + samples <= limits_.max_batch;
      if (!joins) before += group.cost.seconds(rest);
      own = group.cost.seconds(joins ? rest + samples : samples);
    } else if (rest > 0) {
      before += group.cost.seconds(rest);
    }
  }
  double busy = 0;  // until a stream is free
  if (running_.size() >= static_cast<size_t>(limits_.streams))
    busy = std::max(0.0, in_seconds(*std::ranges::min_element(running_) - now));
  return own == 0 ? 0 : busy + before / limits_.streams + own;
}

void BatchQueue::refused(const Key& key) {
  if (Group* group = find(key); group && running_.empty() && positions_.empty()) group->cost.relax();
}

}  // namespace taille
