// The report of a pass that quantises, as Python sees it.
#pragma once

#include <vector>

#include "bindings/bindings.h"
#include "graph/quantize.h"

namespace taille {

inline py::list report_rows(const std::vector<QuantizeReport>& report) {
  py::list rows;
  for (const QuantizeReport& r : report)
    rows.append(py::dict(py::arg("name") = r.name, py::arg("op") = r.op, py::arg("precision") = r.precision,
                         py::arg("why") = r.why, py::arg("weight_sqnr_db") = r.weight_sqnr_db));
  return rows;
}

}  // namespace taille
