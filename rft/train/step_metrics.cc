#include "rft/train/step_metrics.h"

#include <algorithm>
#include <cmath>

namespace rft {
namespace {

// Tokens without a loss among those from a row's first token with one on: tools' and environments' turns, and what was masked.
double MaskedFraction(absl::Span<const Datum> datums) {
  int64_t masked = 0, all = 0;
  for (const Datum& d : datums) {
    const auto first =
        std::find_if(d.weights.begin(), d.weights.end(), [](float w) { return w != 0.0f; });
    masked += std::count(first, d.weights.end(), 0.0f);
    all += d.weights.end() - first;
  }
  return all > 0 ? static_cast<double>(masked) / static_cast<double>(all) : 0.0;
}

}  // namespace

void StepMetrics::Add(const LossOutput& output, const at::Tensor& entropy_N) {
  totals_.Add(output);
  loss_sum_ += output.sum.item<double>();
  entropy_ += entropy_N.sum(at::kDouble).item<double>();
  entropy_tokens_ += static_cast<double>(entropy_N.numel());
}

void StepMetrics::Finish(absl::Span<const Datum> datums, ForwardBackwardResult& result) const {
  result.loss_sum = loss_sum_;
  result.num_tokens = static_cast<int64_t>(totals_.num_tokens());
  result.num_rows = static_cast<int64_t>(totals_.num_rows());
  result.finite = result.finite && std::isfinite(loss_sum_);
  result.metrics = totals_.Metrics();
  result.metrics["masked_frac"] = MaskedFraction(datums);  // the loss saw only what it trains on
  if (entropy_tokens_ > 0) result.metrics["entropy"] = entropy_ / entropy_tokens_;
}

}  // namespace rft
