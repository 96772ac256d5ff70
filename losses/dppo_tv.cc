// "dppo-tv": tokens leave the update when their probability has moved too far, not their ratio.
//   J = (1/N) sum_i sum_t -sg(min(r, delta) keep) A log pi w,   p = e^lp, q = e^old
//   keep = p - q <= clip_high for A > 0, p - q >= -clip_low otherwise
// Source: 2602.04879. Checked by tests/losses/loss_oracle_test.cc, preset verl.dppo_tv.
#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm DppoTvSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const LossInput& clean = input.clean;
  const at::Tensor& held_T = clean.held_logprobs_T;
  const at::Tensor ratio_T = input.held_log_ratio_T.exp();
  const at::Tensor p_T = held_T.exp();
  const at::Tensor q_T = clean.old_logprobs_T.exp();
  const at::Tensor up_T = p_T - q_T <= config.clip_high;
  const at::Tensor down_T = p_T - q_T >= -config.clip_low;
  const at::Tensor keep_T = at::where(clean.advantages_T > 0, up_T, down_T);
  metrics->AddRatio(ratio_T);
  metrics->AddSum("clip_frac", keep_T.logical_not());
  metrics->AddSum("clip_frac_region", keep_T.logical_not());
  const at::Tensor weight_T = config.delta ? ratio_T.clamp_max(*config.delta) : ratio_T;
  return {.loss_T = -weight_T * keep_T * clean.advantages_T * clean.logprobs_T,
          .live_T = keep_T.logical_and(clean.advantages_T != 0)};
}

void DppoTvDefaults(LossConfig& config) {
  config.clip_low = 0.15;
  config.clip_high = 0.15;
  config.delta = 20.0;
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
}

RFT_REGISTER_POLICY_LOSS("dppo-tv", DppoTv, &DppoTvSurrogate, &DppoTvDefaults);

}  // namespace
}  // namespace rft
