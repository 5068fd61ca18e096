#include "base/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace taille {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

Buffer::Buffer(size_t bytes) {
  if (bytes == 0) return;
  if (bytes > static_cast<size_t>(PTRDIFF_MAX) - kHugePage) throw std::bad_alloc();
  const bool huge = bytes >= kHugePage;
  void* memory = nullptr;
  // posix_memalign, as aligned_alloc wants the size to be a multiple of the alignment, which would double 2.1 MiB.
  if (posix_memalign(&memory, huge ? kHugePage : kCacheLine, bytes) != 0) throw std::bad_alloc();
  // Advice only: before the first touch, so that the zeroing below already faults in whole huge pages.
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  std::memset(memory, 0, bytes);
  data_ = static_cast<uint8_t*>(memory);
  size_ = bytes;
}

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace taille
