// "sapo": a soft gate in place of the clip (Soft Adaptive Policy Optimization).
//   J = (1/B) sum_i (1/|y_i|) sum_t -(4 / tau) sigmoid(tau (r - 1)) A,   tau by the sign of A
// Source: 2511.20347. Checked by tests/losses/loss_oracle_test.cc, presets trl.sapo, verl.sapo.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm SapoSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const SapoKnobs& knobs = input.config.sapo;
  const at::Tensor& advantages_T = input.clean.advantages_T;
  metrics->AddRatio(input.held_log_ratio_T.exp());
  const at::Tensor tau_T =
      at::where(advantages_T > 0, at::full_like(advantages_T, knobs.tau_positive),
                at::full_like(advantages_T, knobs.tau_negative));
  const at::Tensor gate_T = (tau_T * input.log_ratio_T.expm1()).sigmoid();
  return {.loss_T = -gate_T * (4.0 / tau_T) * advantages_T};
}

void SapoDefaults(LossConfig& config) { config.log_ratio_cap = 20.0; }

RFT_REGISTER_POLICY_LOSS("sapo", Sapo, &SapoSurrogate, &SapoDefaults);

}  // namespace
}  // namespace rft
