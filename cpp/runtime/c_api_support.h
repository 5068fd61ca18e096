// Inside of the C API: the guard that no exception passes, the last error of each thread, and handles.
//
// A handle is a number that is given once and never dereferenced, so a closed or invented one is only not found.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "base/error.h"
#include "base/function_ref.h"
#include "taille/taille.h"

namespace taille::c_api {

// A request was taken out of the queue.
class CancelledError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Of the exception that is being handled; `what` lives as long as it does.
struct Failure {
  taille_status status;
  const char* what;
};
Failure current_failure() noexcept;

// Runs `body`; what it throws becomes a status, its text the last error of this thread. `function` begins the text.
taille_status guarded(const char* function, FunctionRef<void()> body) noexcept;

// A number that no other handle of this process has or had.
uintptr_t new_handle();

// The open objects of one kind. Never destroyed, as threads may outlive static objects at the end of a process.
template <class T>
class Handles {
 public:
  uintptr_t add(std::shared_ptr<T> object) {
    const uintptr_t handle = new_handle();
    std::unique_lock lock(mutex_);
    open_.emplace(handle, std::move(object));
    return handle;
  }
  // Throws std::invalid_argument where it is not open.
  std::shared_ptr<T> get(const void* handle, const char* what) const {
    std::shared_lock lock(mutex_);
    const auto it = open_.find(reinterpret_cast<uintptr_t>(handle));
    check(it != open_.end(), what, handle ? " is not open (closed before?)" : " is NULL");
    return it->second;
  }
  // As get, and it is not open from now on. Whoever uses it keeps it until they are done.
  std::shared_ptr<T> remove(const void* handle, const char* what) {
    std::unique_lock lock(mutex_);
    const auto it = open_.find(reinterpret_cast<uintptr_t>(handle));
    check(it != open_.end(), what, " is not open (closed before?)");
    std::shared_ptr<T> object = std::move(it->second);
    open_.erase(it);
    return object;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<uintptr_t, std::shared_ptr<T>> open_;
};

}  // namespace taille::c_api
