// The response cache.
#include <memory>

#include "bindings/bindings.h"
#include "runtime/response_cache.h"

namespace taille {

namespace {

// Holds a Python function; given up with the GIL, whichever thread does so.
std::shared_ptr<py::function> held(const py::function& function) {
  return {new py::function(function), [](py::function* last) {
            py::gil_scoped_acquire gil;
            delete last;
          }};
}

std::shared_ptr<ResponseCache> make_cache(int64_t size, double ttl, int64_t window, int hash_bits,
                                          const std::optional<py::function>& clock,
                                          const std::optional<py::function>& on_switch) {
  ResponseCache::Options options{size, ttl_nanoseconds(ttl), window, hash_bits, {}, {}};
  if (clock)
    options.clock = [read = held(*clock)] {
      py::gil_scoped_acquire gil;
      return (*read)().cast<int64_t>();
    };
  if (on_switch)
    options.on_switch = [tell = held(*on_switch)](bool on, const std::string& why) {
      py::gil_scoped_acquire gil;
      try {
        (*tell)(on, why);
      } catch (py::error_already_set& error) {
        error.discard_as_unraisable("telling that a response cache was switched");  // the answer is there all the same
      }
    };
  return std::make_shared<ResponseCache>(std::move(options));
}

py::dict statistics_of(const ResponseCache& cache) {
  const ResponseCache::Statistics s = cache.statistics();
  return py::dict(py::arg("hits") = s.hits, py::arg("misses") = s.misses, py::arg("shared") = s.shared,
                  py::arg("no_room") = s.no_room, py::arg("bypassed") = s.bypassed, py::arg("evictions") = s.evictions,
                  py::arg("expired") = s.expired, py::arg("entries") = s.entries, py::arg("bytes") = s.bytes,
                  py::arg("waiting") = s.waiting, py::arg("switched_off") = s.switched_off, py::arg("on") = s.on);
}

}  // namespace

void bind_cache(py::module_& m) {
  py::class_<ResponseCache, std::shared_ptr<ResponseCache>>(m, "ResponseCache", "Answers by their whole inputs.")
      .def(py::init(&make_cache), py::arg("size"), py::arg("ttl"), py::arg("window") = 4096, py::arg("hash_bits") = 64,
           py::arg("clock") = py::none(), py::arg("on_switch") = py::none(),
           "size: most bytes, of all it holds; ttl: seconds; window: requests after which it is judged; clock: gives "
           "nanoseconds; on_switch(on, why): told when it is switched off or on again.")
      .def("clear", &ResponseCache::clear, py::call_guard<py::gil_scoped_release>())  // waits for locks
      .def("statistics", &statistics_of);
}

}  // namespace taille
