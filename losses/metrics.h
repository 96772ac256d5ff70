// Collects a call's metrics as tensors and brings them to the host in one transfer at the end.
// Sums are over active tokens, in float64; extremes are over active tokens and
// left out when there are none.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "losses/loss.h"
#include "losses/packed_rows.h"

namespace rft {

class MetricCollector {
 public:
  explicit MetricCollector(const PackedRows& rows) : rows_(rows) {}

  void AddSum(const std::string& name, const at::Tensor& x_T);
  void AddMax(const std::string& name, const at::Tensor& x_T);
  void AddMin(const std::string& name, const at::Tensor& x_T);
  // ratio_mean, ratio_min and ratio_max of an importance ratio.
  void AddRatio(const at::Tensor& ratio_T);

  // Fills the metric maps, num_tokens, num_rows and the denominator.
  void Finish(const LossConfig& config, LossOutput* output) const;

 private:
  using Named = std::vector<std::pair<std::string, at::Tensor>>;
  const PackedRows& rows_;
  Named sums_, maxima_, minima_;  // float64 scalars
};

}  // namespace rft
