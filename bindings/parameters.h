// A model's parameters and gradients as numpy arrays. REQUIRES: the GIL is held.
#pragma once

#include <string>

#include <pybind11/numpy.h>

#include "rft/models/causal_lm.h"

namespace rft::python {

namespace py = pybind11;

// The parameter of that (Hugging Face) name. Throws StatusException (kInvalidArgument, "did you mean").
const Parameter& FindParameter(const ParameterStore& parameters, const std::string& name);

// A float32 copy of the same shape. REQUIRES: a defined, contiguous float32 CPU tensor.
py::array_t<float> CopyToNumpy(const at::Tensor& tensor);

}  // namespace rft::python
