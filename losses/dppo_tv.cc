// "dppo-tv": tokens leave the update when their probability has moved too far, not their ratio.
//   J = (1/N) sum_i sum_t -sg(min(r, delta) keep) A log pi w,   p = e^lp, q = e^old
//   keep = p - q <= clip_high for A > 0, p - q >= -clip_low otherwise
// Source: 2602.04879. Checked by tests/losses/loss_oracle_test.cc, preset verl.dppo_tv.
#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

#include "losses/dppo.h"

namespace rft {
namespace {

SurrogateTerm DppoTvSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const LossInput& clean = input.clean;
  const at::Tensor& held_T = clean.held_logprobs_T;
  const at::Tensor p_T = held_T.exp();
  const at::Tensor q_T = clean.old_logprobs_T.exp();
  const at::Tensor up_T = p_T - q_T <= config.clip_high;
  const at::Tensor down_T = p_T - q_T >= -config.clip_low;
  const at::Tensor keep_T = at::where(clean.advantages_T > 0, up_T, down_T);
  return KeptTokensTerm(input, keep_T, metrics);
}

void DppoTvDefaults(LossConfig& config) { DppoDefaults(config, 0.15); }

RFT_REGISTER_POLICY_LOSS("dppo-tv", DppoTv, &DppoTvSurrogate, &DppoTvDefaults);

}  // namespace
}  // namespace rft
