// "reinforce": the policy gradient itself, no ratio.
//   J = (1/N) sum_i sum_t -A log pi
// Value: not a surrogate of the return, only the gradient has meaning. GPG (2504.02546) is this with
// its own advantages. Source: Williams 1992. Checked by tests/losses/loss_oracle_test.cc, presets
// rft.reinforce, verl.gpg.
#include <ATen/TensorOperators.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm ReinforceSurrogate(const SurrogateInput& input, MetricCollector*) {
  return {.loss_T = -input.clean.logprobs_T * input.clean.advantages_T};
}

void ReinforceDefaults(LossConfig& config) { config.aggregation = Aggregation::kTokenMean; }

RFT_REGISTER_POLICY_LOSS("reinforce", Reinforce, &ReinforceSurrogate, &ReinforceDefaults);

}  // namespace
}  // namespace rft
