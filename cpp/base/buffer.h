// Owned memory, 64-byte aligned, zeroed, never resized; huge pages are asked for from 2 MiB up.
#pragma once

#include <cstddef>
#include <cstdint>

namespace taille {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  size_t size() const { return size_; }
  template <class T = uint8_t>
  T* data() {
    return reinterpret_cast<T*>(data_);
  }
  template <class T = uint8_t>
  const T* data() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace taille
