#include "losses/loss_totals.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace rft {
namespace {

constexpr std::string_view kSquaredGradient = "grad_sq_";

}  // namespace

void LossTotals::Add(const LossOutput& output) {
  for (const auto& [name, value] : output.metric_sums) sums_[name] += value;
  for (const auto& [name, value] : output.metric_maxima) {
    auto [it, fresh] = maxima_.emplace(name, value);
    if (!fresh) it->second = std::max(it->second, value);
  }
  for (const auto& [name, value] : output.metric_minima) {
    auto [it, fresh] = minima_.emplace(name, value);
    if (!fresh) it->second = std::min(it->second, value);
  }
  denominator_ += output.denominator;
  num_tokens_ += output.num_tokens;
  num_rows_ += output.num_rows;
  num_masked_ += output.num_masked;
}

std::map<std::string, double> LossTotals::Metrics() const {
  std::map<std::string, double> metrics = maxima_;
  metrics.insert(minima_.begin(), minima_.end());
  for (const auto& [name, sum] : sums_) {
    metrics[name] = num_tokens_ > 0.0 ? sum / num_tokens_ : 0.0;
    if (name.starts_with(kSquaredGradient))
      metrics["grad_norm_" + name.substr(kSquaredGradient.size())] =
          std::sqrt(sum) / (denominator_ > 0.0 ? denominator_ : 1.0);
  }
  const auto mean = metrics.find("tis_mean"), square = metrics.find("tis_sq_mean");
  if (square != metrics.end() && square->second > 0.0)
    metrics["tis_ess"] = mean->second * mean->second / square->second;
  if (num_tokens_ + num_masked_ > 0.0)
    metrics["masked_frac"] = num_masked_ / (num_tokens_ + num_masked_);
  return metrics;
}

}  // namespace rft
