#include "rft/models/parameter_store.h"

#include <algorithm>
#include <numeric>

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "rft/tensor/kernels.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft {

ParameterStore::ParameterStore(const std::vector<Spec>& specs, const std::vector<Spec>& buffers) {
  for (const Spec& spec : buffers)
    buffers_.push_back({spec.name, at::zeros(spec.shape, at::kFloat), at::Tensor()});
  constexpr int64_t kAlign = 16;
  std::vector<int64_t> offsets;
  int64_t total = 0;
  for (const Spec& spec : specs) {
    const int64_t n =
        std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>());
    offsets.push_back(total);
    num_parameters_ += n;
    total += RoundUp(n, kAlign);
  }
  values_ = LargeTensor(total, at::kFloat);
  parameters_.reserve(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const int64_t n = std::accumulate(specs[i].shape.begin(), specs[i].shape.end(), int64_t{1},
                                      std::multiplies<>());
    const bool fresh = index_.emplace(specs[i].name, i).second;
    TORCH_CHECK(fresh, "parameter ", specs[i].name, " is declared twice");
    parameters_.push_back(
        {specs[i].name, values_.narrow(0, offsets[i], n).view(specs[i].shape), at::Tensor()});
  }
}

Parameter* ParameterStore::Find(std::string_view name) {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &parameters_[it->second];
}
const Parameter* ParameterStore::Find(std::string_view name) const {
  return const_cast<ParameterStore*>(this)->Find(name);
}

void ParameterStore::EnableGradients() {
  if (grads_.defined()) return;
  grads_ = LargeTensor(values_.numel(), at::kFloat, device());
  for (Parameter& p : parameters_)
    p.grad = grads_.narrow(0, OffsetOf(p), p.value.numel()).view(p.value.sizes());
}

void ParameterStore::ZeroGradients() {
  if (!grads_.defined()) return;
  if (!grads_.is_cpu()) {
    grads_.zero_();
    return;
  }
  float* grads = grads_.data_ptr<float>();
  ParallelFor(grads_.numel(), 1 << 20,
              [&](int64_t begin, int64_t end) { std::fill(grads + begin, grads + end, 0.0f); });
}

void ParameterStore::SetValues(const at::Tensor& values) {
  for (Parameter& p : parameters_)
    p.value = values.narrow(0, OffsetOf(p), p.value.numel()).view(p.value.sizes());
  values_ = values;
}

void ParameterStore::MoveTo(at::Device device, bool offload) {
  TORCH_CHECK(!grads_.defined(), "parameters: are trained already, so they stay where they are");
  if (!offload) SetValues(values_.to(device));
  for (Parameter& p : parameters_) p.compute_device = device;
  device_ = device;
}

void ParameterStore::ShareValuesOf(const ParameterStore& other) {
  TORCH_CHECK(other.values_.is_cpu() && other.values_.sizes() == values_.sizes(),
              "parameters: only values of the same number on the CPU can be shared");
  SetValues(other.values_);
}

void ParameterStore::Update(const ValueUpdate& update) {
  constexpr int64_t kPiece = 1 << 16;
  struct Piece {
    const Parameter* parameter;
    int64_t begin, count;
  };
  std::vector<Piece> pieces;
  for (const Parameter& p : parameters_)
    for (int64_t i = 0; i < p.value.numel(); i += kPiece)
      pieces.push_back({&p, i, std::min(kPiece, p.value.numel() - i)});
  ParallelFor(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      update(*pieces[i].parameter, pieces[i].begin, pieces[i].count);
  });
}

int64_t ParameterStore::OffsetOf(const Parameter& p) const {
  return p.value.storage_offset() - values_.storage_offset();
}

}  // namespace rft
