#include "tests/tensor/gradient_check.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "tests/tensor/kernel_testing.h"
#include "tests/tensor/thread_count.h"

namespace rft::testing {
namespace {

constexpr float kStep = 1e-2f;
constexpr double kTolerance =
    2e-3;  // the third derivative times kStep^2, and float32's rounding over kStep

void CheckElements(const at::Tensor& values, const at::Tensor& gradient,
                   const std::function<double()>& loss, const std::string& name) {
  at::NoGradGuard no_grad;
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double difference = CentralDifference(Data<float>(values)[i], kStep, loss);
    ASSERT_NEAR(Data<float>(gradient)[i], difference,
                kTolerance * std::max(1.0, std::abs(difference)))
        << name << " [" << i << "]";
  }
}

}  // namespace

double CentralDifference(float& x, float step, const std::function<double()>& loss) {
  const float before = x;
  x = before + step;
  const double up = loss();
  x = before - step;
  const double difference = (up - loss()) / (2.0 * step);
  x = before;
  return difference;
}

at::Tensor RandomTensor(std::vector<int64_t> shape, uint64_t seed, double scale) {
  int64_t count = 1;
  for (int64_t s : shape) count *= s;
  return at::tensor(RandomRow(count, seed, scale), at::kFloat).view(shape);
}

Parameter RandomParameter(const std::string& name, std::vector<int64_t> shape, uint64_t seed) {
  Parameter p{name, RandomTensor(std::move(shape), seed), at::Tensor()};
  p.grad = at::zeros_like(p.value);
  return p;
}

void CheckGradients(const at::Tensor& x, const TensorFn& f,
                    const std::vector<Parameter*>& parameters,
                    const std::function<void()>& refresh) {
  const ThreadCount one_thread(1);
  at::Tensor leaf = x.clone().requires_grad_(true);
  const at::Tensor y = f(leaf);
  const at::Tensor g = RandomTensor(y.sizes().vec(), 77);
  y.backward(g);
  auto loss = [&] {
    refresh();
    return (f(x.clone()).to(at::kDouble) * g).sum().item<double>();
  };
  const at::Tensor moved = x;  // what f is evaluated at
  CheckElements(moved, leaf.grad().contiguous(), loss, "x");
  for (Parameter* p : parameters) CheckElements(p->value, p->grad, loss, p->name);
}

}  // namespace rft::testing
