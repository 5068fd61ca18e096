#include "runtime/broadcast.h"

namespace taille {

Dims broadcast_strides(const Dims& in, const Dims& out) {
  const Dims own = strides_of(in);
  Dims strides(out.size(), 0);
  const size_t lead = out.size() - in.size();
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] != 1) strides[lead + i] = own[i];
  return strides;
}

BroadcastPlan plan_broadcast(const std::vector<Dims>& operands, const Dims& out) {
  std::vector<Dims> full;
  for (const Dims& o : operands) full.push_back(broadcast_strides(o, out));
  // Merge neighbours that every operand walks evenly, last dimension first.
  Dims dims;
  std::vector<Dims> strides(operands.size());
  for (size_t d = out.size(); d-- > 0;) {
    if (out[d] == 1) continue;
    bool merge = !dims.empty();
    for (size_t o = 0; merge && o < full.size(); ++o) merge = full[o][d] == strides[o].back() * dims.back();
    if (merge) {
      dims.back() *= out[d];
      continue;
    }
    dims.push_back(out[d]);
    for (size_t o = 0; o < full.size(); ++o) strides[o].push_back(full[o][d]);
  }
  BroadcastPlan p;
  p.strides.resize(operands.size());
  for (size_t o = 0; o < operands.size(); ++o) p.steps.push_back(dims.empty() ? 0 : strides[o][0]);
  if (!dims.empty()) p.inner = dims[0];
  for (size_t d = dims.size(); d-- > 1;) {
    p.outer_dims.push_back(dims[d]);
    p.outer *= dims[d];
    for (size_t o = 0; o < operands.size(); ++o) p.strides[o].push_back(strides[o][d]);
  }
  return p;
}

}  // namespace taille
