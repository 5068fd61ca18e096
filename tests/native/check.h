// What the checks share: random numbers that are the same everywhere, memory beside inaccessible pages, and the
// comparison of all variants of a kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace taille::check {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();                            // SplitMix64 (Steele, Lea and Flood 2014)
  int64_t from(int64_t first, int64_t last);  // both included
  bool one_in(int64_t n) { return from(1, n) == 1; }
  float uniform(float low, float high);  // 24 bits of it
  template <class T>
  T any(std::initializer_list<T> values) {
    return values.begin()[from(0, static_cast<int64_t>(values.size()) - 1)];
  }
  // Of any bits, half of them ordinary. No denormals: where they are flushed, x86-64's minimum of one is 0.
  float wild();
  std::vector<float> floats(int64_t n, float low, float high);
  template <class T>
  std::vector<T> integers(int64_t n, int64_t first, int64_t last) {
    std::vector<T> out(static_cast<size_t>(n));
    for (T& x : out) x = static_cast<T>(from(first, last));
    return out;
  }

 private:
  uint64_t state_;
};

// Zeroed bytes that end, or begin, at a page that may not be touched.
class Guarded {
 public:
  enum class Side { end, begin };
  Guarded(size_t bytes, Side side);
  ~Guarded();
  Guarded(Guarded&& other) noexcept;
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  Guarded& operator=(Guarded&&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  uint8_t *base_, *data_;
  size_t mapped_, size_;
};

// A copy of `values` beside an inaccessible page, before or behind it by turns.
template <class T>
Guarded guarded(const std::vector<T>& values) {
  static bool behind = false;
  behind = !behind;
  Guarded out(values.size() * sizeof(T), behind ? Guarded::Side::end : Guarded::Side::begin);
  if (!values.empty()) __builtin_memcpy(out.data(), values.data(), out.size());
  return out;
}

// Memory that a kernel writes. `place` puts it into the arguments.
struct Output {
  enum class Kind { bytes, floats, scratch } kind;
  size_t size;  // bytes
  std::function<void(uint8_t*)> place;
  std::vector<uint8_t> before{};  // what is there; none: a pattern
};

using Results = std::vector<std::vector<uint8_t>>;
Results run_beside_pages(const std::vector<Output>& outputs, const std::function<void()>& run);

class Checker {
 public:
  // Runs all rows that this CPU has and compares what they write with the last one, the reference; with "portable"
  // where the reference is a definition in double.
  template <class Args>
  void compare(const std::string& op, const std::string& what, KernelTable<Args> table, const Args& args,
               const std::vector<Output>& outputs) {
    const KernelRow<Args>* model = &table.back();
    if (is_not_the_reference_s(op))
      for (const auto& row : table)
        if (std::string(row.name) == "portable") model = &row;
    const Results wanted = run_beside_pages(outputs, [&] { model->run(args); });
    digest(op, outputs, wanted);
    for (const auto& row : table) {
      if (row.required > level_ || &row == model || &row == &table.back()) continue;
      same(op, row.name, what, outputs, run_beside_pages(outputs, [&] { row.run(args); }), wanted);
    }
  }

  explicit Checker(Isa level) : level_(level) {}
  Isa level() const { return level_; }
  // Prints what was run, and a digest per op of what was wanted; whether all is well.
  bool report() const;

 private:
  static bool is_not_the_reference_s(const std::string& op);
  void digest(const std::string& op, const std::vector<Output>& outputs, const Results& wanted);
  void same(const std::string& op, const std::string& variant, const std::string& what,
            const std::vector<Output>& outputs, const Results& got, const Results& wanted);

  Isa level_;
  std::map<std::string, std::map<std::string, int>> runs_;
  std::map<std::string, uint32_t> digests_;
  std::set<std::string> wrong_;
};

void check_products(Checker& checker, Random& random);
void check_windows(Checker& checker, Random& random);
void check_rows(Checker& checker, Random& random);
void check_elements(Checker& checker, Random& random);
void check_attention(Checker& checker, Random& random);

}  // namespace taille::check
