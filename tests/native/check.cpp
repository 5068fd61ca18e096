#include "check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/crc32c.h"

namespace taille::check {

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

int64_t Random::from(int64_t first, int64_t last) {
  return first + static_cast<int64_t>(bits() % static_cast<uint64_t>(last - first + 1));
}

float Random::uniform(float low, float high) {
  return std::fma(static_cast<float>(bits() >> 40) * 0x1p-24f, high - low, low);
}

float Random::wild() {
  if (one_in(2)) return uniform(-100.0f, 100.0f);
  const float x = std::bit_cast<float>(static_cast<uint32_t>(bits()));
  return std::fabs(x) < 0x1p-126f ? 0.0f : x;
}

std::vector<float> Random::floats(int64_t n, float low, float high) {
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = uniform(low, high);
  return out;
}

Guarded::Guarded(size_t bytes, Side side) : size_(bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t pages = std::max<size_t>(1, (bytes + page - 1) / page);
  mapped_ = (pages + 2) * page;
  void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base_ = static_cast<uint8_t*>(memory);
  if (memory == MAP_FAILED || mprotect(base_, page, PROT_NONE) != 0 ||
      mprotect(base_ + mapped_ - page, page, PROT_NONE) != 0) {
    std::perror("guarded memory");
    std::exit(2);
  }
  data_ = side == Side::begin ? base_ + page : base_ + (pages + 1) * page - bytes;
}

Guarded::~Guarded() {
  if (base_) munmap(base_, mapped_);
}

Guarded::Guarded(Guarded&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), data_(other.data_), mapped_(other.mapped_), size_(other.size_) {}

Results run_beside_pages(const std::vector<Output>& outputs, const std::function<void()>& run) {
  std::vector<Guarded> memory;
  for (const Output& one : outputs) {
    const bool scratch = one.kind == Output::Kind::scratch;
    memory.emplace_back(scratch ? (one.size + 63) / 64 * 64 : one.size, Guarded::Side::end);
    std::memset(memory.back().data(), 0xA5, memory.back().size());
    if (!one.before.empty()) std::memcpy(memory.back().data(), one.before.data(), one.size);
    one.place(memory.back().data());
  }
  run();
  Results out;
  for (size_t i = 0; i < outputs.size(); ++i)
    out.emplace_back(memory[i].data(),
                     memory[i].data() + (outputs[i].kind == Output::Kind::scratch ? 0 : outputs[i].size));
  return out;
}

namespace {

// Every NaN alike: which one an operation makes is the architecture's.
std::vector<uint8_t> canonical(const Output& output, std::vector<uint8_t> bytes) {
  if (output.kind != Output::Kind::floats) return bytes;
  for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    float x;
    std::memcpy(&x, &bytes[i], 4);
    const uint32_t nan = 0x7FC00000;
    if (std::isnan(x)) std::memcpy(&bytes[i], &nan, 4);
  }
  return bytes;
}

}  // namespace

bool Checker::is_not_the_reference_s(const std::string& op) {
  static const std::set<std::string> ops{"unary",     "softmax",   "layer_norm", "rms_norm",     "mean_rows",
                                         "mean_last", "attention", "softmax_u8", "block_scores", "pack_keys"};
  return ops.count(op) > 0;
}

void Checker::digest(const std::string& op, const std::vector<Output>& outputs, const Results& wanted) {
  uint32_t& digest = digests_[op];
  for (size_t i = 0; i < outputs.size(); ++i) digest = crc32c(canonical(outputs[i], wanted[i]), digest);
}

void Checker::same(const std::string& op, const std::string& variant, const std::string& what,
                   const std::vector<Output>& outputs, const Results& got, const Results& wanted) {
  ++runs_[op][variant];
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto a = canonical(outputs[i], got[i]), b = canonical(outputs[i], wanted[i]);
    if (a == b) continue;
    size_t at = 0;
    while (a[at] == b[at]) ++at;
    wrong_.insert(op + " " + variant);
    std::printf("WRONG %s %s: %s: output %zu differs from byte %zu of %zu on\n", op.c_str(), variant.c_str(),
                what.c_str(), i, at, a.size());
  }
}

bool Checker::report() const {
  bool good = wrong_.empty();
  for (const auto& [op, digest] : digests_) std::printf("digest %s %08x\n", op.c_str(), digest);
  for (const KernelListing& row : list_kernels()) {
    if (row.required > level_ || row.variant == "reference") continue;
    if (row.variant == "portable" && is_not_the_reference_s(row.op)) continue;  // the model itself
    const auto op = runs_.find(row.op);
    const bool known = op != runs_.end(), found = known && op->second.count(row.variant) > 0;
    if (found) std::printf("%s %s: %d calls\n", row.op.c_str(), row.variant.c_str(), op->second.at(row.variant));
    // Ops that no AArch64 level has are not checked here.
    if (found || (!known && row.required != Isa::neon && row.required != Isa::neondot)) continue;
    std::printf("WRONG %s %s was not run\n", row.op.c_str(), row.variant.c_str());
    good = false;
  }
  return good;
}

}  // namespace taille::check
