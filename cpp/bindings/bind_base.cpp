// CPU levels, the thread grant and the exceptions; and a thread pool to test.
#include <algorithm>
#include <chrono>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/isa.h"
#include "base/thread_pool.h"
#include "bindings/bindings.h"

namespace taille {
namespace {

std::vector<std::string> names_of(const std::vector<Isa>& levels) {
  std::vector<std::string> out;
  for (Isa level : levels) out.emplace_back(name_of(level));
  return out;
}

void raise_as(const char* python_class, const char* message) {
  try {
    // Imported only when needed, since taille.errors may not be there yet while taille itself is being imported.
    PyErr_SetString(py::module_::import("taille.errors").attr(python_class).ptr(), message);
  } catch (py::error_already_set& import_failed) {
    import_failed.restore();
  }
}

void translate_exceptions() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const ArtefactError& error) {
      raise_as("ArtefactError", error.what());
    } catch (const IsaError& error) {
      raise_as("IsaError", error.what());
    } catch (const QueueFullError& error) {
      raise_as("QueueFullError", error.what());
    } catch (const DeadlineError& error) {
      raise_as("DeadlineError", error.what());
    } catch (const ClosedError& error) {
      raise_as("ClosedError", error.what());
    } catch (const TypeError& error) {
      PyErr_SetString(PyExc_TypeError, error.what());
    }
  });
}

void bind_isa(py::module_& m) {
  m.def("isa_levels", [] { return names_of(known_isas()); }, "Every CPU level of this architecture, lowest first.");
  m.def("supported_isas", [] { return names_of(supported_isas()); }, "The levels this CPU can run, lowest first.");
  m.def("detect_isa", [] { return std::string(name_of(detect_isa())); }, "The best level this CPU can run.");
  m.def(
      "active_isa", [] { return std::string(name_of(active_isa())); },
      "The level in use: TAILLE_ISA where set, else the best.");
  m.def(
      "require_isa", [](const std::string& level) { require_isa(isa_from_name(level)); }, py::arg("level"),
      "Raise IsaError unless this CPU can run the level.");
  m.def(
      "choose_isa",
      [](const std::string& forced, const std::string& best) {
        return std::string(name_of(choose_isa(forced, isa_from_name(best))));
      },
      py::arg("forced"), py::arg("best"), "What TAILLE_ISA=forced gives on a CPU whose best level is `best`.");
  m.def(
      "isa_from_bits",
      [](uint32_t leaf1_ecx, uint32_t leaf7_ebx, uint32_t leaf7_ecx, uint32_t leaf7_edx, uint64_t xcr0) {
        return std::string(name_of(isa_from_bits({leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx, xcr0})));
      },
      py::arg("leaf1_ecx"), py::arg("leaf7_ebx"), py::arg("leaf7_ecx"), py::arg("leaf7_edx"), py::arg("xcr0"),
      "The level of a CPU with these CPUID and XCR0 registers.");
  m.def("cpu_name", &cpu_name, "The CPU's own name, or 'unknown'.");
}

// True where this thread now flushes denormals: the product is denormal, and both factors are not.
bool denormals_flushed() {
  const volatile float tiny = 2e-38f;
  const volatile float quarter = 0.25f;
  return tiny * quarter == 0.0f;
}

void burn(double seconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < until) {
  }
}

// For each task: how often it was done, the last thread that did it, and whether denormals were flushed there.
struct PoolTrace {
  std::vector<int> times, threads;
  std::vector<bool> flushed;
};

PoolTrace traced_run(ThreadPool& pool, int64_t tasks, double burn_seconds) {
  check(tasks >= 0 && tasks <= 1'000'000, "ThreadPool.run: tasks must be in 0 .. 1000000, got ", tasks);
  const auto count = static_cast<size_t>(tasks);
  PoolTrace trace{std::vector<int>(count), std::vector<int>(count, -1), {}};
  std::vector<char> flushed(count);  // not vector<bool>, whose neighbours share a byte
  pool.run(tasks, [&](int64_t task, int thread) {
    const auto at = static_cast<size_t>(task);
    ++trace.times[at];
    trace.threads[at] = thread;
    flushed[at] = denormals_flushed();
    if (burn_seconds > 0) burn(burn_seconds);
  });
  trace.flushed.assign(flushed.begin(), flushed.end());
  return trace;
}

// A run of `inner_pool` inside every body of a run.
PoolTrace nested_run(ThreadPool& pool, ThreadPool& inner_pool, int64_t outer, int64_t inner, double burn_seconds) {
  check(outer >= 0 && inner >= 0 && outer <= 1000 && inner <= 1000, "ThreadPool.run_nested: too many tasks");
  const auto count = static_cast<size_t>(outer * inner);
  PoolTrace trace{std::vector<int>(count), std::vector<int>(count, -1), {}};
  pool.run(outer, [&](int64_t i, int) {
    inner_pool.run(inner, [&, i](int64_t j, int thread) {
      const auto at = static_cast<size_t>(i * inner + j);
      ++trace.times[at];
      trace.threads[at] = thread;
      burn(burn_seconds);
    });
  });
  return trace;
}

void bind_threads(py::module_& m) {
  m.def(
      "granted_threads",
      [](const std::string& proc_root, const std::string& cgroup_root) {
        ThreadGrant grant = granted_threads(proc_root, cgroup_root);
        return std::pair(grant.threads, std::move(grant.reason));
      },
      py::arg("proc_root") = "/proc", py::arg("cgroup_root") = "/sys/fs/cgroup",
      "How many threads this process was granted, and the reason in one sentence.");
  m.def("denormals_flushed", &denormals_flushed, "Whether the calling thread flushes denormals now.");

  const auto no_gil = py::call_guard<py::gil_scoped_release>();  // nothing below touches Python before it returns
  py::class_<PoolTrace>(m, "PoolTrace", "What a traced ThreadPool.run did, by task.")
      .def_readonly("times", &PoolTrace::times, "How often each task was done.")
      .def_readonly("threads", &PoolTrace::threads, "The thread that did each task.")
      .def_readonly("flushed", &PoolTrace::flushed, "Whether denormals were flushed in each task.");
  py::class_<ThreadPool>(m, "ThreadPool", "The executor's thread pool, for tests and measurements.")
      .def(py::init<int>(), py::arg("threads"))
      .def_property_readonly("threads", &ThreadPool::threads, "Threads, the caller included.")
      .def("run", &traced_run, py::arg("tasks"), py::arg("burn_seconds") = 0.0, no_gil,
           "Run tasks that note who did them, each busy for burn_seconds.")
      .def("run_nested", &nested_run, py::arg("inner_pool"), py::arg("outer"), py::arg("inner"),
           py::arg("burn_seconds") = 0.0, no_gil,
           "Run `inner` tasks of inner_pool (which may be this one) inside each of `outer` tasks.")
      .def("fork_join_seconds", &ThreadPool::fork_join_seconds, no_gil,
           "The measured cost of one fork and join while the workers spin.");
}

}  // namespace

void bind_base(py::module_& m) {
  translate_exceptions();
  bind_isa(m);
  bind_threads(m);
}

}  // namespace taille
