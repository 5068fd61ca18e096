// The passes, calibration, quantisation and the executor.
#include "bindings/arrays.h"
#include "bindings/report.h"
#include "graph/optimize.h"
#include "graph/quantize.h"
#include "runtime/calibrate.h"
#include "runtime/response_cache.h"

namespace taille {

namespace {

Isa level_of(const std::string& name) { return name.empty() ? active_isa() : isa_from_name(name); }

py::tuple run_passes(const Graph& graph, const std::string& dump_after) {
  std::string dump;
  Graph out;
  {
    py::gil_scoped_release nogil;  // graphs hold no Python objects
    out = optimize(graph, evaluate_node, dump_after, &dump);
  }
  return py::make_tuple(std::move(out), dump);
}

py::list pass_list() {
  py::list out;
  for (const Pass& p : passes()) out.append(py::make_tuple(p.name, p.what));
  return out;
}

py::tuple quantize_graph(const Graph& graph, const std::map<std::string, std::pair<float, float>>& given,
                         const std::vector<std::string>& ignored, const std::string& clipping,
                         QuantizedWeights* known) {
  Ranges ranges;
  for (const auto& [name, range] : given) ranges[name] = {range.first, range.second};
  const QuantizeOptions options{{ignored.begin(), ignored.end()}, clipping_from_name(clipping), known};
  std::vector<QuantizeReport> report;
  Graph out;
  {
    py::gil_scoped_release nogil;  // graphs hold no Python objects
    out = quantize(graph, ranges, options, &report);
  }
  return py::make_tuple(std::move(out), report_rows(report));
}

py::list run_model(Model& model, const py::dict& given, const std::optional<std::vector<py::array>>& out) {
  InputArrays inputs(model.graph(), given);
  std::shared_ptr<const Plan> plan;
  {
    py::gil_scoped_release nogil;  // planning touches shapes only
    plan = model.plan_for(inputs.arrays);
  }
  OutputArrays outputs(model.graph(), *plan, out);
  {
    py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
    model.answer(*plan, inputs.arrays, outputs.pointers);
  }
  return outputs.list();
}

// The quick way of a call like one before: nothing of it is checked twice. None where it is not such a call.
py::object run_again(Model& model, py::handle given) {
  const std::optional<InputArrays> inputs = InputArrays::plain(model.graph(), given);
  const std::shared_ptr<const Plan> plan = inputs ? model.known_plan(inputs->arrays) : nullptr;
  if (!plan) return py::none();
  OutputArrays outputs(model.graph(), *plan);
  {
    py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
    model.answer(*plan, inputs->arrays, outputs.pointers);
  }
  return outputs.list();
}

int64_t plan_model(Model& model, const py::dict& given) {
  InputArrays inputs(model.graph(), given);
  py::gil_scoped_release nogil;  // planning touches shapes only
  return model.plan_for(inputs.arrays)->arena_bytes;
}

py::dict node_dict(const NodeInfo& info) {
  return py::dict(py::arg("name") = info.name, py::arg("op") = info.op, py::arg("kernel") = info.kernel,
                  py::arg("precision") = info.precision);
}

// One warm run, then one timed run.
py::list profile_model(Model& model, const py::dict& given) {
  InputArrays inputs(model.graph(), given);
  auto plan = model.plan_for(inputs.arrays);
  OutputArrays outputs(model.graph(), *plan);
  std::vector<double> seconds(model.graph().nodes.size(), 0);
  {
    py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
    model.run(*plan, inputs.pointers, outputs.pointers);
    model.run(*plan, inputs.pointers, outputs.pointers,
              [&](const Step& step, double s, const void*) { seconds[step.node] += s; });
  }
  py::list rows;
  const auto infos = model.describe();
  for (size_t n = 0; n < infos.size(); ++n) {
    py::dict row = node_dict(infos[n]);
    row["seconds"] = seconds[n];
    row["shape"] = py::cast(plan->dims[static_cast<size_t>(model.graph().nodes[n].output)]);
    rows.append(row);
  }
  return rows;
}

py::list describe_model(const Model& model) {
  py::list rows;
  for (const NodeInfo& info : model.describe()) {
    py::dict row = node_dict(info);
    row["shape"] = text_of(info.shape);
    rows.append(row);
  }
  return rows;
}

void calibrate(Calibrator& calibrator, const py::dict& given) {
  InputArrays inputs(calibrator.model().graph(), given);
  auto plan = calibrator.model().plan_for(inputs.arrays);
  OutputArrays outputs(calibrator.model().graph(), *plan);
  py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
  calibrator.run(*plan, inputs.pointers, outputs.pointers);
}

std::map<std::string, std::pair<float, float>> ranges_of(const Calibrator& calibrator, const std::string& method,
                                                         double percentile) {
  std::map<std::string, std::pair<float, float>> out;
  for (const auto& [name, r] : calibrator.ranges(method, percentile)) out[name] = {r.lo, r.hi};
  return out;
}

std::map<std::string, Array<float>> channel_maxima(const Calibrator& calibrator) {
  std::map<std::string, Array<float>> out;
  for (const auto& [name, maxima] : calibrator.channel_maxima())
    out[name] = Array<float>(static_cast<py::ssize_t>(maxima.size()), maxima.data());
  return out;
}

}  // namespace

void bind_runtime(py::module_& m) {
  m.def("optimize", &run_passes, py::arg("graph"), py::arg("dump_after") = "",
        "All passes: (optimised graph, its text after the named pass or '').");
  m.def("passes", &pass_list, "(name, what it does) of each pass, in order.");
  m.def("quantize", &quantize_graph, py::arg("graph"), py::arg("ranges"),
        py::arg("ignore") = std::vector<std::string>(), py::arg("weight_clipping") = "none", py::arg("known") = nullptr,
        "The int8 graph and a report row per layer. known: what earlier calls made of weights; used, and added to.");

  py::class_<Calibrator>(m, "Calibrator", "Streaming statistics of every float tensor of an optimised graph.")
      .def(py::init([](const Graph& g, int threads, const std::string& isa) {
             return std::make_unique<Calibrator>(g, threads, level_of(isa));
           }),
           py::arg("graph"), py::arg("threads") = 0, py::arg("isa") = "")
      .def("run", &calibrate, py::arg("inputs"), "Observes one batch: arrays by input name.")
      .def("ranges", &ranges_of, py::arg("method") = "minmax", py::arg("percentile") = 99.99)
      .def("channel_maxima", &channel_maxima,
           "The largest magnitude of each channel of what linear layers read, by value name.")
      .def_property_readonly("batches", &Calibrator::batches);

  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A graph made ready to run.")
      .def(py::init([](const Graph& g, int threads, const std::string& isa) {
             const Isa level = level_of(isa);
             py::gil_scoped_release nogil;                       // packing weights touches no Python object
             return std::make_shared<Model>(g, threads, level);  // runners share it
           }),
           py::arg("graph"), py::arg("threads") = 0, py::arg("isa") = "")
      .def("run", &run_model, py::arg("inputs"), py::arg("outputs") = py::none(),
           "Arrays by input name in, the outputs in graph order out: into the arrays given, else new ones.")
      .def("run_again", &run_again, py::arg("inputs"),
           "`run` on plain numpy arrays (by name, as a tuple, or one) of dtypes and shapes that ran before; else None.")
      .def("plan", &plan_model, py::arg("inputs"), "Plans the shapes of these arrays; gives the bytes a run will need.")
      .def("profile", &profile_model, py::arg("inputs"), "A row per node: kernel, precision, seconds, shape.")
      .def("describe", &describe_model)
      .def("plan_count", &Model::plan_count)
      .def("arena_bytes", &Model::arena_bytes)
      .def("release", &Model::release, py::call_guard<py::gil_scoped_release>(),  // waits for runs to end
           "Drops plans, arenas and cached responses and ends the threads; the next run makes new ones.")
      .def("set_cache", &Model::set_cache, py::arg("cache").none(true),
           "What `run` keeps its answers in; None: nowhere.")
      .def_property_readonly("cache", &Model::cache)
      .def_property_readonly("threads", &Model::threads)
      .def_property_readonly("isa", [](const Model& model) { return std::string(name_of(model.isa())); })
      .def_property_readonly("graph", [](const Model& model) { return Graph(model.graph()); });
}

}  // namespace taille
