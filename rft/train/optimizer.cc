#include "rft/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

constexpr int64_t kChunk = 1 << 16;

}  // namespace

AdamW::AdamW(int64_t num_elements)
    : m_(LargeTensor(num_elements, at::kFloat)), v_(LargeTensor(num_elements, at::kFloat)) {}

double AdamW::Norm(const at::Tensor& grads) {
  const int64_t n = grads.numel(), chunks = (n + kChunk - 1) / kChunk;
  std::vector<double> partial(chunks);
  ParallelFor(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      partial[c] = GetKernels().sum_of_squares(Data<float>(grads) + c * kChunk,
                                               std::min(kChunk, n - c * kChunk));
  });
  double total = 0.0;
  for (double p : partial) total += p;
  return std::sqrt(total);
}

void AdamW::Step(const at::Tensor& values, const at::Tensor& grads, double scale,
                 const AdamParams& params) {
  TORCH_CHECK(values.numel() == m_.numel() && grads.numel() == m_.numel(),
              "adamw: arenas of different sizes");
  ++num_steps_;
  const auto t = static_cast<double>(num_steps_);
  const auto bias1 = static_cast<float>(1.0 - std::pow(params.beta1, t));
  const auto bias2_sqrt = static_cast<float>(std::sqrt(1.0 - std::pow(params.beta2, t)));
  const int64_t n = values.numel();
  ParallelFor((n + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    const int64_t i = begin * kChunk, count = std::min(n, end * kChunk) - i;
    GetKernels().adamw(Data<float>(values) + i, Data<float>(m_) + i, Data<float>(v_) + i,
                       Data<float>(grads) + i, count, static_cast<float>(scale),
                       static_cast<float>(params.learning_rate), static_cast<float>(params.beta1),
                       static_cast<float>(params.beta2), static_cast<float>(params.eps),
                       static_cast<float>(params.weight_decay), bias1, bias2_sqrt);
  });
}

}  // namespace rft
