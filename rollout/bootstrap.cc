#include "rollout/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rft/core/rng.h"

namespace rft {
namespace {

constexpr uint64_t kBootstrapSalt = 0x424f'4f54;  // "BOOT"
constexpr double kTail = 0.025;

// Linear between the two nearest values, as numpy's quantile. REQUIRES: sorted, not empty.
double Quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

absl::StatusOr<PairedDifference> PairedBootstrap(absl::Span<const double> before,
                                                 absl::Span<const double> after, uint64_t seed,
                                                 int64_t num_resamples) {
  if (before.size() != after.size()) {
    return absl::InvalidArgumentError(absl::StrCat("paired bootstrap: ", before.size(),
                                                   " rewards before and ", after.size(),
                                                   " after; both must be of the same rows"));
  }
  PairedDifference result;
  std::vector<double> differences;
  for (size_t i = 0; i < before.size(); ++i) {
    if (!std::isfinite(before[i]) || !std::isfinite(after[i])) continue;
    result.before += before[i];
    result.after += after[i];
    differences.push_back(after[i] - before[i]);
  }
  if (differences.empty()) {
    return absl::InvalidArgumentError(
        "paired bootstrap: no row was judged both before and after: nothing to compare");
  }
  const size_t n = differences.size();
  result.num_rows = static_cast<int64_t>(n);
  result.before /= static_cast<double>(n);
  result.after /= static_cast<double>(n);
  for (double d : differences) result.mean += d / static_cast<double>(n);
  std::vector<double> means;
  uint64_t counter = 0;
  for (int64_t r = 0; r < num_resamples; ++r) {
    double sum = 0.0;
    for (size_t i = 0; i < n; ++i) sum += differences[BitsAt(seed, kBootstrapSalt, counter++) % n];
    means.push_back(sum / static_cast<double>(n));
  }
  std::sort(means.begin(), means.end());
  result.low = Quantile(means, kTail);
  result.high = Quantile(means, 1.0 - kTail);
  return result;
}

}  // namespace rft
