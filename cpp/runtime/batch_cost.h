// What a batch costs: seconds by how many samples it holds, learned while running.
//
// A size that ran is known by a moving mean; one between two known sizes lies on the line between their means; one
// above all of them is taken to cost in proportion, which is too much where a batch pays, and one below as much as the
// smallest. So an estimate errs on the side that refuses and closes early, and the first run of that size corrects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace taille {

class BatchCost {
 public:
  void learn(int64_t samples, double seconds);
  double seconds(int64_t samples) const;  // 0 where nothing was learned
  // seconds(b) as fixed + b * each, from the smallest and the largest size that ran, more than once if any did; both 0
  // where only one size ran.
  struct Line {
    double fixed = 0, each = 0;
  };
  Line line() const;
  // Takes a little off all means. A request was refused though nothing else was there: without this, one slow run
  // could refuse all requests for ever, and nothing would be learned any more.
  void relax();

 private:
  static constexpr size_t kMaxSizes = 1024;
  struct Mean {
    double seconds;
    uint32_t runs;
  };
  std::map<int64_t, Mean> means_;
};

}  // namespace taille
