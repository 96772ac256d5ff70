// "vespo": the policy gradient weighted by a smooth function of the whole row's ratio.
//   S = clamp(sum_t clamp(lr_t, +-20) [+ sum_t log w_t], log 1e-8, 20)
//   J = (1/N) sum_i sum_t -sg(exp(lambda + k S - lambda e^S)) A log pi,   (k, lambda) by the sign of A
// The correction enters S, not as a factor. Row-level: use one advantage per row.
// Source: 2602.10693. Checked by tests/losses/loss_oracle_test.cc, presets trl.vespo, trl.vespo_tis.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <cmath>

#include "losses/policy_loss.h"

namespace rft {
namespace {

constexpr double kLogCap = 20.0;

// `positive` where A >= 0, `negative` elsewhere.
at::Tensor BySign(const at::Tensor& advantages_T, double positive, double negative) {
  return at::where(advantages_T >= 0, at::full_like(advantages_T, positive),
                   at::full_like(advantages_T, negative));
}

SurrogateTerm VespoSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const VespoKnobs& knobs = input.config.vespo;
  const at::Tensor& advantages_T = input.clean.advantages_T;
  const double floor = std::log(1e-8);
  at::Tensor sum_R = input.rows.RowSum(input.held_log_ratio_T.clamp(-kLogCap, kLogCap));
  if (input.correction != nullptr)
    sum_R = sum_R + input.rows.RowSum(input.correction->weight_T.log().clamp(floor, kLogCap));
  const at::Tensor s_T = input.rows.Spread(sum_R.clamp(floor, kLogCap), advantages_T);
  const at::Tensor lambda_T = BySign(advantages_T, knobs.lambda_positive, knobs.lambda_negative);
  const at::Tensor k_T = BySign(advantages_T, knobs.k_positive, knobs.k_negative);
  const at::Tensor phi_T = (lambda_T + k_T * s_T - lambda_T * s_T.exp()).exp();
  metrics->AddRatio(s_T.exp());
  metrics->AddSum("phi_mean", phi_T);
  return {.loss_T = -phi_T * advantages_T * input.clean.logprobs_T,
          .live_T = phi_T * advantages_T != 0,
          .is_corrected = true};
}

void VespoDefaults(LossConfig& config) { config.aggregation = Aggregation::kTokenMean; }

RFT_REGISTER_POLICY_LOSS("vespo", Vespo, &VespoSurrogate, &VespoDefaults);

}  // namespace
}  // namespace rft
