// The parts of bind_kernels_int8, all into _native.kernels.
#pragma once

#include "bindings/bindings.h"

namespace taille {

void bind_attention_s8(py::module_& m);
void bind_conv_s8(py::module_& m);
void bind_gemm_s8(py::module_& m);
void bind_half_kernels(py::module_& m);
void bind_movement(py::module_& m);
void bind_pruning_mask_kernels(py::module_& m);
void bind_quantize(py::module_& m);
void bind_window_s8(py::module_& m);

}  // namespace taille
