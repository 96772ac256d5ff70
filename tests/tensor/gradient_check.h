// Finite differences for the differentiable operations: d sum(f(x) * g) / dx by central differences, in float32 with the
// projection in double. Values and inputs are of order 1.
#pragma once

#include <functional>
#include <string>

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft::testing {

using TensorFn = std::function<at::Tensor(const at::Tensor&)>;

at::Tensor RandomTensor(std::vector<int64_t> shape, uint64_t seed, double scale = 1.0);

// A parameter with a zeroed gradient.
Parameter RandomParameter(const std::string& name, std::vector<int64_t> shape, uint64_t seed);

// (loss(x + step) - loss(x - step)) / (2 step); x is put back.
double CentralDifference(float& x, float step, const std::function<double()>& loss);

// Fails if autograd's gradient of sum(f(x) * g) for a random g differs from differences of f, at any element of x or of
// the parameters; `refresh` is called after a parameter was moved.
void CheckGradients(
    const at::Tensor& x, const TensorFn& f, const std::vector<Parameter*>& parameters = {},
    const std::function<void()>& refresh = [] {});

}  // namespace rft::testing
