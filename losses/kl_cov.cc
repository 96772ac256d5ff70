// "kl-cov": no clip; the tokens whose covariance of advantage and log-probability is largest, those
// that take entropy away fastest, pay for moving.
//   J = (1/N) sum_i sum_t -r A + [chosen] covariance.kl_coef |log pi - log old|
// chosen: the max(1, fraction N) tokens of the call with the largest (A - mean A)(lp - mean lp).
// Ranks the tokens of a call against each other: not the same when rows are split over calls.
// Source: 2505.22617 eq. 11-12. Checked by tests/losses/loss_oracle_test.cc, preset verl.kl_cov.
#include <ATen/TensorOperators.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>

#include "losses/policy_loss.h"

namespace rft {
namespace {

at::Tensor Chosen(const SurrogateInput& input) {
  const at::Tensor at_N = input.rows.active_T().nonzero().flatten();
  at::Tensor chosen_T = at::zeros_like(input.rows.active_T());
  if (at_N.numel() == 0) return chosen_T;
  const at::Tensor a_N = input.clean.advantages_T.index_select(0, at_N);
  const at::Tensor lp_N = input.clean.held_logprobs_T.index_select(0, at_N);
  const at::Tensor covariance_N = (a_N - a_N.mean()) * (lp_N - lp_N.mean());
  const auto wanted =
      static_cast<int64_t>(input.config.covariance.fraction * static_cast<double>(at_N.numel()));
  const at::Tensor top = std::get<1>(at::topk(covariance_N, std::max<int64_t>(1, wanted)));
  return chosen_T.index_fill_(0, at_N.index_select(0, top), true);
}

SurrogateTerm KlCovSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossInput& clean = input.clean;
  const at::Tensor chosen_T = Chosen(input);
  metrics->AddRatio(input.held_log_ratio_T.exp());
  metrics->AddSum("clip_frac_region", chosen_T);
  const at::Tensor moved_T = (clean.logprobs_T - clean.old_logprobs_T).abs();
  return {.loss_T = -input.log_ratio_T.exp() * clean.advantages_T +
                    input.config.covariance.kl_coef * moved_T * chosen_T,
          .live_T = (clean.advantages_T != 0).logical_or(chosen_T)};
}

void KlCovDefaults(LossConfig& config) { config.aggregation = Aggregation::kTokenMean; }

RFT_REGISTER_POLICY_LOSS("kl-cov", KlCov, &KlCovSurrogate, &KlCovDefaults,
                         /*splits_over_calls=*/false);

}  // namespace
}  // namespace rft
