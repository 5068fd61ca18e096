// Artefacts: graphs to files and bytes, and back.
#include <pybind11/stl/filesystem.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/crc32c.h"
#include "bindings/bindings.h"
#include "graph/artefact.h"

namespace taille {
namespace {

std::span<const uint8_t> span_of(const py::bytes& bytes) {
  const auto view = static_cast<std::string_view>(bytes);
  return {reinterpret_cast<const uint8_t*>(view.data()), view.size()};
}

std::pair<Graph, std::string> pair_of(Artefact&& artefact) {
  return {std::move(artefact.graph), std::move(artefact.metadata)};
}

// Python's own OSError, with its subclass by errno and the path.
void translate_file_errors() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const std::filesystem::filesystem_error& error) {
      errno = error.code().value();
      PyErr_SetFromErrnoWithFilename(PyExc_OSError, error.path1().c_str());
    }
  });
}

}  // namespace

void bind_artefact(py::module_& m) {
  translate_file_errors();
  m.def(
      "save_artefact",
      [](const std::filesystem::path& path, const Graph& graph, const std::string& metadata) {
        const Graph copy = graph;  // constants are shared; so no other thread can change what is being written
        py::gil_scoped_release nogil;
        return save_artefact(path.string(), copy, metadata);
      },
      py::arg("path"), py::arg("graph"), py::arg("metadata") = "",
      "Write the graph to a file, the old one staying until the new one is complete; the bytes written.");
  m.def(
      "load_artefact",
      [](const std::filesystem::path& path) {
        py::gil_scoped_release nogil;
        return pair_of(load_artefact(path.string()));
      },
      py::arg("path"), "(graph, metadata) of a file; ArtefactError for anything else.");
  m.def(
      "serialize",
      [](const Graph& graph, const std::string& metadata) {
        const Graph copy = graph;
        std::string bytes;
        {
          py::gil_scoped_release nogil;  // `copy` is ours alone
          bytes = serialize(copy, metadata);
        }
        return py::bytes(bytes);
      },
      py::arg("graph"), py::arg("metadata") = "", "The bytes that save_artefact writes.");
  m.def(
      "deserialize",
      [](const py::bytes& bytes, const std::string& name) {
        const auto span = span_of(bytes);
        py::gil_scoped_release nogil;  // `bytes` is held by the caller and cannot change
        return pair_of(deserialize(span, name));
      },
      py::arg("data"), py::arg("name") = "<bytes>", "(graph, metadata) of a file's bytes; `name` is for messages.");
  m.def(
      "crc32c",
      [](const py::bytes& bytes, uint32_t so_far) {
        const auto span = span_of(bytes);
        py::gil_scoped_release nogil;  // as above
        return crc32c(span, so_far);
      },
      py::arg("data"), py::arg("so_far") = 0, "CRC-32C of the bytes, continuing from `so_far`.");
}

}  // namespace taille
