// "cispo": the policy gradient weighted by a clipped, constant ratio. No token ever loses its
// gradient.
//   J = (1/N) sum_i sum_t -sg(clip(r, 1 - clip_low, 1 + clip_high)) A log pi w
// Bounds as differences from 1, as everywhere here: Tinker's 0 .. 4 is clip_low 1, clip_high 3. The
// value is not a surrogate, only the gradient has meaning.
// Source: 2506.13585 eq. 4-5. Checked by tests/losses/loss_oracle_test.cc, presets rft.cispo,
// tinker.cispo, verl.cispo, trl.cispo and (clip_low 1, clip_high 1) verl.reinforce_is.
#include <ATen/TensorOperators.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm CispoSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const at::Tensor ratio_T = input.held_log_ratio_T.exp();
  const at::Tensor clipped_T = ratio_T.clamp(1.0 - config.clip_low, 1.0 + config.clip_high);
  const at::Tensor outside_T = clipped_T != ratio_T;
  metrics->AddRatio(ratio_T);
  metrics->AddSum("clip_frac", outside_T);
  metrics->AddSum("clip_frac_region", outside_T);
  return {.loss_T = -clipped_T * input.clean.advantages_T * input.clean.logprobs_T};
}

void CispoDefaults(LossConfig& config) {
  config.clip_low = 1.0;
  config.clip_high = 3.0;
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("cispo", Cispo, &CispoSurrogate, &CispoDefaults);

}  // namespace
}  // namespace rft
