#include "runtime/c_api_support.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

namespace taille::c_api {
namespace {

// A plain array, so that neither setting nor the end of a thread can fail.
thread_local char last_error[1024] = "";

void set_last_error(std::string_view function, std::string_view what) noexcept {
  size_t at = 0;
  const size_t room = sizeof last_error - 1;
  for (std::string_view part : {function, std::string_view(": "), what}) {
    size_t length = std::min(part.size(), room - at);
    // Not in the middle of a character.
    while (length < part.size() && length > 0 && (static_cast<unsigned char>(part[length]) & 0xC0) == 0x80) --length;
    std::memcpy(last_error + at, part.data(), length);
    at += length;
  }
  last_error[at] = '\0';
}

}  // namespace

Failure current_failure() noexcept {
  try {
    throw;
  } catch (const std::invalid_argument& error) {
    return {TAILLE_INVALID_ARGUMENT, error.what()};
  } catch (const TypeError& error) {
    return {TAILLE_INVALID_ARGUMENT, error.what()};
  } catch (const ArtefactError& error) {
    return {TAILLE_ARTEFACT_ERROR, error.what()};
  } catch (const IsaError& error) {
    return {TAILLE_ISA_ERROR, error.what()};
  } catch (const QueueFullError& error) {
    return {TAILLE_QUEUE_FULL, error.what()};
  } catch (const DeadlineError& error) {
    return {TAILLE_DEADLINE, error.what()};
  } catch (const ClosedError& error) {
    return {TAILLE_CLOSED, error.what()};
  } catch (const CancelledError& error) {
    return {TAILLE_CANCELLED, error.what()};
  } catch (const std::bad_alloc&) {
    return {TAILLE_OUT_OF_MEMORY, "out of memory"};
  } catch (const std::exception& error) {
    return {TAILLE_INTERNAL_ERROR, error.what()};
  } catch (...) {
    return {TAILLE_INTERNAL_ERROR, "an unknown exception"};
  }
}

taille_status guarded(const char* function, FunctionRef<void()> body) noexcept {
  try {
    body();
    return TAILLE_OK;
  } catch (...) {
    const Failure failure = current_failure();
    set_last_error(function, failure.what);
    return failure.status;
  }
}

uintptr_t new_handle() {
  static std::atomic<uintptr_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace taille::c_api

using namespace taille::c_api;

const char* taille_version(void) { return TAILLE_VERSION; }

const char* taille_last_error(void) { return last_error; }

const char* taille_status_text(int32_t status) {
  switch (status) {
    case TAILLE_OK:
      return "ok";
    case TAILLE_INVALID_ARGUMENT:
      return "invalid argument";
    case TAILLE_ARTEFACT_ERROR:
      return "artefact error";
    case TAILLE_ISA_ERROR:
      return "CPU level error";
    case TAILLE_OUT_OF_MEMORY:
      return "out of memory";
    case TAILLE_INTERNAL_ERROR:
      return "internal error";
    case TAILLE_QUEUE_FULL:
      return "queue full";
    case TAILLE_DEADLINE:
      return "deadline";
    case TAILLE_CLOSED:
      return "closed";
    case TAILLE_CANCELLED:
      return "cancelled";
    default:
      return "unknown status";
  }
}
