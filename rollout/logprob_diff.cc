#include "rollout/logprob_diff.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rft/core/check.h"

namespace rft {

LogprobDiff CompareLogprobs(absl::Span<const Datum> datums,
                            const std::vector<std::vector<float>>& sampler,
                            const std::vector<std::vector<float>>& trainer) {
  RFT_CHECK(sampler.size() == datums.size() && trainer.size() == datums.size());
  LogprobDiff diff;
  double sum = 0.0, sum_k3 = 0.0;
  bool finite = true;
  for (size_t r = 0; r < datums.size(); ++r) {
    const std::vector<float>& weights = datums[r].weights;
    RFT_CHECK(sampler[r].size() == weights.size() && trainer[r].size() == weights.size());
    double row_k3 = 0.0;
    int64_t row_tokens = 0;
    for (size_t t = 0; t < weights.size(); ++t) {
      if (weights[t] == 0.0f) continue;
      const double d = static_cast<double>(trainer[r][t]) - static_cast<double>(sampler[r][t]);
      finite = finite && std::isfinite(d);
      diff.max = std::max(diff.max, std::abs(d));
      sum += std::abs(d);
      row_k3 += std::expm1(d) - d;
      ++row_tokens;
    }
    if (row_tokens == 0) continue;
    diff.num_tokens += row_tokens;
    sum_k3 += row_k3;
    diff.kl_max = std::max(diff.kl_max, row_k3 / static_cast<double>(row_tokens));
  }
  if (diff.num_tokens == 0) return diff;
  diff.mean = sum / static_cast<double>(diff.num_tokens);
  diff.k3 = sum_k3 / static_cast<double>(diff.num_tokens);
  if (!finite)
    diff.max = diff.mean = diff.k3 = diff.kl_max = std::numeric_limits<double>::infinity();
  return diff;
}

}  // namespace rft
