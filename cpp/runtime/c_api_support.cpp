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

taille_status guarded(const char* function, FunctionRef<void()> body) noexcept {
  auto failed = [&](taille_status status, const char* what) {
    set_last_error(function, what);
    return status;
  };
  try {
    body();
    return TAILLE_OK;
  } catch (const std::invalid_argument& error) {
    return failed(TAILLE_INVALID_ARGUMENT, error.what());
  } catch (const TypeError& error) {
    return failed(TAILLE_INVALID_ARGUMENT, error.what());
  } catch (const ArtefactError& error) {
    return failed(TAILLE_ARTEFACT_ERROR, error.what());
  } catch (const IsaError& error) {
    return failed(TAILLE_ISA_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return failed(TAILLE_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(TAILLE_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(TAILLE_INTERNAL_ERROR, "an unknown exception");
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
    default:
      return "unknown status";
  }
}
