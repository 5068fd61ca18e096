#include "runtime/batch_queue.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace taille {

namespace {

// A deadline is held with this much to spare: what a batch costs varies, and the reply has a way to go.
constexpr double kSpare = 1.25;
constexpr double kLeastWait = 2e-6;  // seconds: shorter waits cost more than they bring
constexpr BatchTime kNever = BatchTime::max();

double in_seconds(BatchTime::duration d) { return std::chrono::duration<double>(d).count(); }

constexpr double kSoon = 1.0 / 8, kSteady = 1.0 / 32;  // weights of the newest in a moving mean

void move_mean(double& mean, double value, double weight) { mean += mean == 0 ? value : weight * (value - mean); }

// Takes the time since `last` into the moving mean.
void note_arrival(BatchTime& last, double& mean, BatchTime now, double weight) {
  if (last != BatchTime{}) move_mean(mean, in_seconds(now - last), weight);
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
  group->promised += at->promised;
  note_arrival(group->last_arrival, group->gap, now, kSoon);
  note_arrival(last_arrival_, gap_, now, kSteady);
  move_mean(samples_, static_cast<double>(at->samples), kSteady);
}

double BatchQueue::load(const Group& group) const {
  const BatchCost::Line line = group.cost.line();
  return gap_ == 0 ? 0 : (line.fixed + line.each * samples_) / (gap_ * limits_.streams);
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
  group->promised -= at->promised;
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
    group.promised = 0;
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
  if (now < next_overdue_) return kNever;
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

class BatchQueue::Taking {
 public:
  Taking(BatchQueue& queue, Group& group, BatchTime now, bool all_join)
      : batch{&group, {}, {}, 0, now},
        queue_(queue),
        now_(now),
        line_(group.cost.line()),
        load_(queue.load(group)),
        all_join_(all_join || group.promised > 0 || line_.each == 0) {}

  // Takes the first of a level into the batch, or among the expired; false where it has to wait.
  bool first_of(Group::Level& level) {
    Group& group = *batch.group;
    Request& r = level.waiting.front();
    const bool hopeless = r.promised && !in_time(r.samples, r.deadline);
    // What is lost already is no reason to keep others away.
    const BatchTime until = in_time(r.samples, r.deadline) ? std::min(deadline_, r.deadline) : deadline_;
    if (!hopeless && !batch.requests.empty() && !joins(r, until)) return false;
    group.samples -= r.samples;
    level.samples -= r.samples;
    group.promised -= r.promised;
    queue_.positions_.erase(r.id);
    Requests& to = hopeless ? batch.expired : batch.requests;
    if (!hopeless) {
      batch.samples += r.samples;
      deadline_ = until;
    }
    to.splice(to.end(), level.waiting, level.waiting.begin());
    return true;
  }

  Batch batch;

 private:
  BatchQueue& queue_;
  const BatchTime now_;
  const BatchCost::Line line_;
  const double load_;
  const bool all_join_;
  BatchTime deadline_ = kNever;  // the first of those that can be met

  bool in_time(int64_t samples, BatchTime until) const {
    return until == kNever || now_ + batch_seconds(batch.group->cost.seconds(samples)) <= until;
  }
  bool joins(const Request& r, BatchTime until) const {
    if (r.samples > queue_.limits_.max_batch - batch.samples) return false;
    const bool threatens = in_time(batch.samples, deadline_) && !in_time(batch.samples + r.samples, until);
    return !threatens && (all_join_ || pays(r));
  }
  bool pays(const Request& r) const {
    constexpr double kFull = 0.95, kTelling = 2e-5;  // seconds to wake a worker, and to tell
    if (load_ >= kFull) return true;
    const auto there = static_cast<double>(batch.requests.size()), waiting = static_cast<double>(queue_.size());
    const double coming = (there + waiting) * load_ / (1 - load_);
    // Of each wait: a run less on one stream is a part of one less on all.
    const double saved = (line_.fixed + kTelling) / queue_.limits_.streams;
    return saved * (waiting + coming) > there * line_.each * static_cast<double>(r.samples);
  }
};

BatchQueue::Batch BatchQueue::take(Group* group, BatchTime now, bool hurry) {
  constexpr uint64_t kExploring = 32;
  constexpr int kOverdueShare = 8;
  Taking taking(*this, *group, now, hurry || taken_ % kExploring == kExploring - 1);
  Batch& batch = taking.batch;
  bool overdue = false;
  for (BatchTime since; batch.requests.empty() && (since = overdue_since(*group, now)) != kNever;) {
    const auto first = std::ranges::find_if(
        group->levels, [&](const auto& level) { return level.second.waiting.front().arrival == since; });
    taking.first_of(first->second);
    overdue = !batch.requests.empty();
    if (first->second.waiting.empty()) group->levels.erase(first);
  }
  for (auto level = group->levels.begin(); level != group->levels.end(); level = group->levels.erase(level)) {
    while (!level->second.waiting.empty() && taking.first_of(level->second)) {
    }
    if (!level->second.waiting.empty()) break;
  }
  if (batch.requests.empty()) return std::move(batch);
  ++taken_;
  const BatchTime::duration cost = batch_seconds(group->cost.seconds(batch.samples));
  if (overdue) next_overdue_ = now + kOverdueShare * cost;
  batch.end = now + cost;
  ++group->on_streams;
  running_.push_back(batch.end);
  return std::move(batch);
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
