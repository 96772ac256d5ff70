#include "rft/train/step_metrics.h"

#include <algorithm>
#include <cmath>

namespace rft {

void StepMetrics::Add(const LossOutput& output, const at::Tensor& entropy_N) {
  for (const auto& [name, value] : output.metric_sums) sums_[name] += value;
  for (const auto& [name, value] : output.metric_maxima) {
    auto [it, fresh] = maxima_.emplace(name, value);
    if (!fresh) it->second = std::max(it->second, value);
  }
  for (const auto& [name, value] : output.metric_minima) {
    auto [it, fresh] = minima_.emplace(name, value);
    if (!fresh) it->second = std::min(it->second, value);
  }
  loss_sum_ += output.sum.item<double>();
  tokens_ += output.num_tokens;
  rows_ += output.num_rows;
  entropy_ += entropy_N.sum(at::kDouble).item<double>();
  entropy_tokens_ += static_cast<double>(entropy_N.numel());
}

void StepMetrics::Finish(ForwardBackwardResult& result) const {
  result.loss_sum = loss_sum_;
  result.num_tokens = static_cast<int64_t>(tokens_);
  result.num_rows = static_cast<int64_t>(rows_);
  result.finite = result.finite && std::isfinite(loss_sum_);
  for (const auto& [name, value] : sums_)
    result.metrics[name] = tokens_ > 0 ? value / tokens_ : 0.0;
  const auto mean = result.metrics.find("tis_mean"), square = result.metrics.find("tis_sq_mean");
  if (square != result.metrics.end() && square->second > 0.0)
    result.metrics["tis_ess"] = mean->second * mean->second / square->second;
  result.metrics.insert(maxima_.begin(), maxima_.end());
  result.metrics.insert(minima_.begin(), minima_.end());
  if (entropy_tokens_ > 0) result.metrics["entropy"] = entropy_ / entropy_tokens_;
}

}  // namespace rft
