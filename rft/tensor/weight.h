// Parameters (fp32 masters with gradients) and the packed compute copies made from them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rft {

// One trainable tensor, by its canonical (Hugging Face) name. `value` and `grad` are float32 views into the arenas of
// the ParameterStore that owns it; grad is undefined for a model that is only sampled from.
struct Parameter {
  std::string name;
  at::Tensor value;
  at::Tensor grad;
  std::optional<at::Device> compute_device = std::nullopt;  // where that is not the value's

  // Of the copies to compute with, and of the gradient.
  at::Device device() const { return compute_device.value_or(value.device()); }
};

// Brings elements [begin, begin + count) of a parameter's value up to date: a step that is done where the values are read next,
// while they are in the cache. Whoever takes one calls it once for every element before reading it; from any thread. Empty: they
// are up to date.
using ValueUpdate = std::function<void(const Parameter&, int64_t begin, int64_t count)>;

// One or several [N_i, K] parameters stacked into one [N, K] matrix and packed for y = x W^T. The copy is what both the
// sampler and the trainer multiply with; its backward reads the parts' masters and adds to the parts' gradients.
// Invariant: while a backward of a forward through this weight is pending, the parts' values do not change.
struct Weight {
  // 1-D, compute dtype, or int8 to be multiplied with bf16; see rft/tensor/gemm.h. Where the parts' device is not the CPU: [N, K].
  at::Tensor packed;
  at::Tensor scales_N;  // float32, of int8 only; N rounded up to whole panels
  int64_t n = 0, k = 0;
  std::vector<Parameter*> parts;

  // Allocates (first call) and fills `packed` from the parts. dtype: kFloat, kBFloat16, or kChar for int8 (never trained).
  static Weight Create(std::vector<Parameter*> parts, at::ScalarType dtype);
  void Repack(const ValueUpdate& update = {});
  bool is_int8() const { return scales_N.defined(); }
  // Of what it is multiplied with.
  at::ScalarType compute_dtype() const { return is_int8() ? at::kBFloat16 : packed.scalar_type(); }
};

// c[m, N] = a[m, K] W^T, or float sums that may be added to. T: the compute dtype's element. `start` as in gemm.h; not for int8.
template <typename T>
void Multiply(const T* a, int64_t m, const Weight& weight, T* c);
template <typename T>
void MultiplyToFloat(const T* a, int64_t m, const Weight& weight, float* c, bool add,
                     const float* start = nullptr);

struct LowRank;         // rft/tensor/low_rank.h
struct LowRankDropout;  // with a key per row

// What an adapter adds to the vocabulary projection of all rows; null: there is none. Both must outlive the backward.
struct HeadAdapter {
  const LowRank* low_rank = nullptr;
  const LowRankDropout* dropout = nullptr;
};

}  // namespace rft
