// The exceptions that cross layers. The bindings turn each into its Python class.
//   std::invalid_argument -> ValueError      TypeError -> TypeError
//   ArtefactError -> taille.ArtefactError    IsaError -> taille.IsaError
//   QueueFullError, DeadlineError, ClosedError -> those of taille
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace taille {

// The bytes are not a taille artefact, or a damaged or hostile one.
class ArtefactError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A CPU level was asked for that does not exist or that this CPU lacks.
class IsaError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An argument has the wrong dtype or kind.
class TypeError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A batcher refuses a request: as many wait as may.
class QueueFullError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A batcher refuses a request, or gives it up: it cannot be done by its deadline.
class DeadlineError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A batcher takes no request: it was closed, or belongs to the process that this one was forked off.
class ClosedError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws std::invalid_argument with the joined message unless `ok`.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) throw std::invalid_argument(concat(parts...));
}

}  // namespace taille
