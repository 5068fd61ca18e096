// Which requests wait, when a batch of them closes, and which of them it takes. Nothing here knows threads or reads the
// clock: the caller holds a lock and says what time it is.
//
// Requests of equal trailing shape form a group; a batch is of one group. While a stream is free, a group closes
//   - when it fills a batch;
//   - when its oldest request has waited `timeout`;
//   - when waiting longer threatens a deadline: the earliest one, less what the batch is known to cost;
//   - when waiting for one more request buys nothing, which is at once for a request that comes alone.
// Of groups that may close the one with the highest priority goes first, then the one with the oldest request. Within a
// group it is priority, then order of arrival; nothing overtakes within a priority. Higher ones could keep a request
// waiting for ever; so a batch begins with the request that has waited longest, where that is longer than
// `max_latency`, unless the last such batch was one of t seconds that began less than 8 t ago. Those of higher priority
// lose an eighth of one stream's time by it at most. (What seconds_to_done() says counts on the order alone.)
//
// What waiting buys. With b samples there and a batch of b costing fixed + b * each seconds, one more request that
// comes after w seconds saves a run of its own (fixed + each), and makes b + 1 requests wait w + each seconds longer.
// That is a gain in the sum of latencies while w < (fixed + each) / (b + 1) - each. Here w is the moving mean of the
// gaps between arrivals, and waiting ends when nothing has come for as long as that. Under load that keeps all streams
// busy there is no question: what came meanwhile is there when a stream becomes free, and goes.
//
// What joining buys. A request that joins j others which run now saves itself and all that come after it what a batch
// costs however small it is (`fixed`, and the telling), and makes those j wait for its samples. Where k requests wait,
// and N more will come before the queue is empty, the sum of latencies falls while
//   (fixed + telling) / streams * (k - j + N) > j * each * (its samples)
// N grows with the load that single runs would be, until at full load nothing but throughput counts. So a model whose
// batches cost in proportion runs requests one by one, in half the time on average, until so much comes that a small
// gain is needed. Where a deadline was promised, all join that may: the promise was made for full batches. All join
// while the queue is drained, and in one batch of 32, so that what large batches cost is not taken on trust for ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "runtime/batch_cost.h"
#include "runtime/batcher.h"

namespace taille {

using BatchClock = std::chrono::steady_clock;
using BatchTime = BatchClock::time_point;

inline BatchTime::duration batch_seconds(double seconds) {
  return std::chrono::duration_cast<BatchTime::duration>(std::chrono::duration<double>(seconds));
}

class BatchQueue {
 public:
  struct Request {
    uint64_t id = 0;
    int64_t samples = 1;
    int priority = 0;
    BatchTime arrival{};
    BatchTime deadline{};   // what batches aim at
    bool promised = false;  // the deadline was asked for: given up where it cannot be met
    std::vector<InputArray> inputs;
    void (*done)(void* context, Reply&& reply) = nullptr;
    void* context = nullptr;
    Reply reply;  // for whoever runs it
  };
  // Requests move between lists without being copied or allocated.
  using Requests = std::list<Request>;
  using Key = std::vector<int64_t>;  // the trailing dimensions of all inputs

  struct Limits {
    int64_t max_batch;
    double timeout;
    int streams;
    double max_latency;
  };
  explicit BatchQueue(const Limits& limits) : limits_(limits) {}

  struct Group;
  // The group of that shape, or null where it is not known.
  Group* find(const Key& key);

  // Puts the first of `one` at its place. Time may not run backwards.
  void push(Requests& one, const Key& key, BatchTime now);
  // The request, out of the queue; an empty list where it does not wait.
  Requests remove(uint64_t id);
  Requests remove_all();
  bool waits(uint64_t id) const { return positions_.contains(id); }
  size_t size() const { return positions_.size(); }

  // The group that should run next, and when it closes; null where nothing waits. With `hurry` all close now.
  struct Next {
    Group* group = nullptr;
    BatchTime when{};
  };
  Next next(BatchTime now, bool hurry = false) const;
  // When the group closes in which that request waits.
  Next next_of(uint64_t id, BatchTime now) const;

  // Takes a batch out of the group. What was promised and can no longer be done in time goes to `expired`; the batch
  // may then be empty. A batch that is not empty must be given to ran() later. With `hurry` it is as full as may be.
  struct Batch {
    Group* group = nullptr;
    Requests requests, expired;
    int64_t samples = 0;
    BatchTime end{};  // when it will be done, as far as is known
  };
  Batch take(Group* group, BatchTime now, bool hurry = false);
  // The batch is no longer on a stream; `seconds` is what it cost, where that says something of the next one.
  void ran(Group* group, BatchTime end, std::optional<double> seconds, int64_t samples);

  // Seconds from now until a request of that shape would be done, were it pushed now; 0 where its cost is not known.
  double seconds_to_done(const Key& key, int64_t samples, int priority, BatchTime now) const;
  // To be called when seconds_to_done() led to a refusal.
  void refused(const Key& key);

  static constexpr size_t kMaxShapes = 128;  // whose costs are remembered

 private:
  struct Position {
    Group* group;
    int priority;
    Requests::iterator at;
  };

  const Limits limits_;
  std::map<Key, Group> groups_;
  std::unordered_map<uint64_t, Position> positions_;
  std::vector<BatchTime> running_;  // when the batches on streams will be done
  uint64_t taken_ = 0;              // batches
  BatchTime next_overdue_{};        // before that, no batch begins with the longest wait
  BatchTime last_arrival_{};
  double gap_ = 0;      // seconds between arrivals of any shape, a moving mean; 0 before the second
  double samples_ = 0;  // of a request, likewise

  BatchTime closes(const Group& group, BatchTime now) const;
  // When the request came that has waited longest, where that is too long and may go first; else the end of time.
  BatchTime overdue_since(const Group& group, BatchTime now) const;
  class Taking;  // a batch while it is put together
  // Load in single runs, were they all of that group: 1 is all that the streams can do.
  double load(const Group& group) const;
  void forget_idle_shapes();
};

struct BatchQueue::Group {
  struct Level {
    Requests waiting;  // by arrival
    int64_t samples = 0;
  };
  std::map<int, Level, std::greater<>> levels;  // by priority; none of them empty
  int64_t samples = 0;                          // that wait
  size_t promised = 0;                          // requests that wait and have a deadline of their own
  size_t on_streams = 0;                        // batches that run
  BatchCost cost;
  BatchTime last_arrival{};
  double gap = 0;  // seconds between arrivals, a moving mean; 0 before the second
};

}  // namespace taille
