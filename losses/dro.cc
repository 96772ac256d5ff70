// "dro": policy gradient with a quadratic penalty on the log ratio (Direct Reward Optimisation).
//   J = (1/N) sum_i sum_t -A log pi w + (dro.beta / 2) (log pi - log old)^2
// Wants soft advantages, computed by the caller. With dro.gate_zero_advantage the penalty is 0 where
// A = 0 (the Fireworks cookbook). The penalty is not multiplied by the correction.
// Source: 2405.19107. Checked by tests/losses/loss_oracle_test.cc, presets verl.dro, fireworks.dro.
#include <ATen/TensorOperators.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm DroSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossInput& clean = input.clean;
  metrics->AddRatio((clean.held_logprobs_T - clean.old_logprobs_T).exp());
  const at::Tensor moved_T = clean.logprobs_T - clean.old_logprobs_T;
  at::Tensor penalty_T = (0.5 * input.config.dro.beta) * moved_T * moved_T;
  if (input.config.dro.gate_zero_advantage) penalty_T = penalty_T * (clean.advantages_T != 0);
  return {.loss_T = -clean.logprobs_T * clean.advantages_T, .uncorrected_T = penalty_T};
}

void DroDefaults(LossConfig& config) { config.aggregation = Aggregation::kTokenMean; }

RFT_REGISTER_POLICY_LOSS("dro", Dro, &DroSurrogate, &DroDefaults);

}  // namespace
}  // namespace rft
