// cos/sin tables of rotary embeddings (2104.09864), computed in float32 as transformers does.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/models/model_config.h"

namespace rft {

class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(const RopeConfig& config, int64_t head_dim, int64_t max_positions);
  const at::Tensor& cos() const { return cos_PD_; }  // [max_positions, head_dim / 2] float32
  const at::Tensor& sin() const { return sin_PD_; }
  void MoveTo(at::Device device);

 private:
  at::Tensor cos_PD_, sin_PD_;
};

// Inverse frequencies [head_dim / 2] after scaling.
std::vector<float> InverseFrequencies(const RopeConfig& config, int64_t head_dim);

}  // namespace rft
