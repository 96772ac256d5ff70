// "clip-cov": the clipped surrogate, and a few unclipped tokens of high covariance of advantage and
// log-probability taken out of the update.
//   J = (1/N) sum_i sum_t [not chosen] max(-r A, -clip(r, 1 - clip_low, 1 + clip_high) A)
// chosen: max(1, fraction N) of the call's tokens that are not clipped and have
// low < (A - mean A)(lp - mean lp) < high. Which of them, where there are more, is decided by a hash
// of their log-probabilities: the paper draws at random; a rerun, and rows in another order, must draw
// the same.
// Ranks the tokens of a call against each other: not the same when rows are split over calls.
// Source: 2505.22617 eq. 9-10. Checked by tests/losses/loss_oracle_test.cc, preset verl.clip_cov.
#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "losses/policy_loss.h"
#include "rft/core/rng.h"

namespace rft {
namespace {

uint64_t Bits(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// `wanted` of the true positions, all of them if there are fewer.
at::Tensor Some(const at::Tensor& candidates_T, const LossInput& clean, int64_t wanted) {
  const at::Tensor at_N = candidates_T.nonzero().flatten().to(at::kCPU);
  if (at_N.numel() <= wanted) return candidates_T;
  const at::Tensor held_T = clean.held_logprobs_T.to(at::kCPU);
  const at::Tensor old_T = clean.old_logprobs_T.to(at::kCPU);
  const auto *held = held_T.const_data_ptr<double>(), *old = old_T.const_data_ptr<double>();
  std::vector<std::pair<uint64_t, int64_t>> keyed;
  for (int64_t i = 0; i < at_N.numel(); ++i) {
    const int64_t t = at_N.const_data_ptr<int64_t>()[i];
    keyed.emplace_back(BitsAt(Bits(held[t]), Bits(old[t]), 0), t);
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < wanted; ++i) chosen.push_back(keyed[static_cast<size_t>(i)].second);
  return at::zeros_like(candidates_T)
      .index_fill_(0, at::tensor(chosen, at::kLong).to(candidates_T.device()), true);
}

SurrogateTerm ClipCovSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const at::Tensor& a_T = input.clean.advantages_T;
  const at::Tensor& lp_T = input.clean.held_logprobs_T;
  const at::Tensor active_T = input.rows.active_T();
  const at::Tensor ratio_T = input.held_log_ratio_T.exp();
  const at::Tensor clipped_T = ratio_T.clamp(1.0 - config.clip_low, 1.0 + config.clip_high);
  const at::Tensor clip_T = -clipped_T * a_T > -ratio_T * a_T;
  const at::Tensor count = active_T.sum().clamp_min(1);
  const at::Tensor covariance_T = (a_T - a_T.sum() / count) * (lp_T - lp_T.sum() / count);
  const at::Tensor candidates_T = active_T.logical_and(clip_T.logical_not())
                                      .logical_and(covariance_T > config.covariance.low)
                                      .logical_and(covariance_T < config.covariance.high);
  const auto wanted =
      static_cast<int64_t>(config.covariance.fraction * active_T.sum().item<double>());
  const at::Tensor chosen_T = Some(candidates_T, input.clean, std::max<int64_t>(1, wanted));
  const at::Tensor live_T =
      chosen_T.logical_not().logical_and(clip_T.logical_not()).logical_and(a_T != 0);
  metrics->AddRatio(ratio_T);
  metrics->AddSum("clip_frac", clip_T);
  metrics->AddSum("clip_frac_region", chosen_T);
  const at::Tensor safe_log_ratio_T = at::where(live_T, input.log_ratio_T, at::zeros_like(ratio_T));
  const at::Tensor constant_T = at::where(clip_T, -clipped_T * a_T, at::zeros_like(ratio_T));
  const at::Tensor loss_T = at::where(live_T, -safe_log_ratio_T.exp() * a_T, constant_T);
  return {.loss_T = loss_T * chosen_T.logical_not(), .live_T = live_T};
}

void ClipCovDefaults(LossConfig& config) { config.aggregation = Aggregation::kTokenMean; }

RFT_REGISTER_POLICY_LOSS("clip-cov", ClipCov, &ClipCovSurrogate, &ClipCovDefaults,
                         /*splits_over_calls=*/false);

}  // namespace
}  // namespace rft
