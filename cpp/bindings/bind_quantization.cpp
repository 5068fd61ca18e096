// What makes a quantised graph better, and what measures how good it is.
#include "bindings/arrays.h"
#include "graph/correct_bias.h"
#include "graph/quantize_weight.h"
#include "graph/smooth.h"
#include "runtime/quantization_error.h"

namespace taille {

namespace {

using Channels = std::map<std::string, std::vector<float>, std::less<>>;  // by name

Channels channels_from(const std::map<std::string, Array<float>>& given) {
  Channels out;
  for (const auto& [name, array] : given) out[name].assign(array.data(), array.data() + array.size());
  return out;
}

py::tuple smooth_graph(const Graph& graph, const std::map<std::string, Array<float>>& maxima, double alpha) {
  const Channels given = channels_from(maxima);
  std::vector<SmoothSite> sites;
  Graph out;
  {
    py::gil_scoped_release nogil;  // graphs hold no Python objects
    out = smooth(graph, given, alpha, &sites);
  }
  py::list rows;
  for (const SmoothSite& s : sites)
    rows.append(py::dict(py::arg("layers") = s.layers, py::arg("into") = s.into, py::arg("why") = s.why));
  return py::make_tuple(std::move(out), rows);
}

void run_layer_errors(LayerErrors& errors, const py::dict& given) {
  InputArrays inputs(errors.model().graph(), given);
  auto plan = errors.model().plan_for(inputs.arrays);
  OutputArrays outputs(errors.model().graph(), *plan);
  py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
  errors.run(*plan, inputs.pointers, outputs.pointers);
}

Array<float> array_of(const std::vector<float>& v) {
  return Array<float>(static_cast<py::ssize_t>(v.size()), v.data());
}

py::dict layer_rows(const LayerErrors& errors) {
  py::dict out;
  for (const LayerErrors::Layer& layer : errors.layers())
    out[py::str(layer.name)] =
        py::dict(py::arg("mean_error") = array_of(layer.mean_error), py::arg("sqnr_db") = layer.sqnr_db);
  return out;
}

py::tuple quantized_weight(const Array<float>& weight, const std::string& clipping) {
  check(weight.ndim() > 0, "the weight is a scalar; wanted [channels, ..]");
  const WeightClipping how = clipping_from_name(clipping);
  Tensor w(DType::f32, {weight.shape(), weight.shape() + weight.ndim()});
  std::copy_n(weight.data(), weight.size(), w.as<float>());
  QuantizedWeight q;
  {
    py::gil_scoped_release nogil;  // tensors hold no Python objects
    q = quantize_weight(w, how);
  }
  return py::make_tuple(Array<int8_t>(w.dims, q.values->as<int8_t>()),
                        Array<float>(q.scale->dims, q.scale->as<float>()), q.sqnr_db);
}

void run_network_errors(NetworkErrors& errors, const py::dict& given) {
  InputArrays inputs(errors.exact().graph(), given);
  OutputArrays outputs(errors.exact().graph(), *errors.exact().plan_for(inputs.arrays));
  py::gil_scoped_release nogil;  // raw pointers only; `inputs` and `outputs` hold the arrays
  errors.run(inputs.arrays, inputs.pointers, outputs.pointers);
}

}  // namespace

void bind_quantization(py::module_& m) {
  m.def("smooth", &smooth_graph, py::arg("graph"), py::arg("maxima"), py::arg("alpha"),
        "SmoothQuant: the float32 graph with factors folded into weights, and a row per site.");
  py::class_<QuantizedWeights>(m, "QuantizedWeights", "What `quantize` made of weights, for its next calls.")
      .def(py::init<>());
  m.def("quantize_weight", &quantized_weight, py::arg("weight"), py::arg("clipping"),
        "int8 values, a scale per channel (the first dimension), and the SQNR in dB.");
  m.def(
      "correct_bias",
      [](const Graph& quantized, const std::map<std::string, Array<float>>& errors) {
        return correct_bias(quantized, channels_from(errors));
      },
      py::arg("quantized"), py::arg("mean_errors"), "The int8 graph with the mean errors taken off its biases.");

  py::class_<LayerErrors>(m, "LayerErrors", "The error of each int8 layer alone, on exact inputs, streaming.")
      .def(py::init([](const Graph& exact, const Graph& quantized, int threads) {
             return std::make_unique<LayerErrors>(exact, quantized, threads, active_isa());
           }),
           py::arg("exact"), py::arg("quantized"), py::arg("threads") = 0)
      .def("run", &run_layer_errors, py::arg("inputs"), "Measures one batch: arrays by input name.")
      .def("layers", &layer_rows,
           "By layer: sqnr_db, and mean_error per channel, before residual and clamp (none for attention).");

  py::class_<NetworkErrors>(m, "NetworkErrors", "The quantised network against the float32 one, node by node.")
      .def(py::init([](const Graph& exact, const Graph& quantized, int threads) {
             return std::make_unique<NetworkErrors>(exact, quantized, threads, active_isa());
           }),
           py::arg("exact"), py::arg("quantized"), py::arg("threads") = 0)
      .def("run", &run_network_errors, py::arg("inputs"),
           "Measures one batch: arrays by input name. Holds the outputs of all nodes meanwhile.")
      .def("sqnr_db", &NetworkErrors::sqnr_db, "By name of the nodes that both graphs have.");
}

}  // namespace taille
