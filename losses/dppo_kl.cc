// "dppo-kl": tokens leave the update when the binary KL from the old policy is too large and the
// token has moved the way its advantage pushes.
//   J = (1/N) sum_i sum_t -sg(min(r, delta) keep) A log pi w,   p = e^lp, q = e^old
//   keep = KL(q, p) <= clip_high or p <= q for A > 0, KL(q, p) <= clip_low or p >= q otherwise
// Source: 2602.04879. Checked by tests/losses/loss_oracle_test.cc, preset verl.dppo_kl.
#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

#include "losses/dppo.h"

namespace rft {
namespace {

constexpr double kTiny = 1e-8;

SurrogateTerm DppoKlSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const LossInput& clean = input.clean;
  const at::Tensor& held_T = clean.held_logprobs_T;
  const at::Tensor p_T = held_T.exp();
  const at::Tensor q_T = clean.old_logprobs_T.exp();
  // KL of "this token or any other" between the old policy and the new one.
  const at::Tensor kl_T = q_T * (clean.old_logprobs_T - held_T) +
                          (1 - q_T) * ((1 - q_T + kTiny) / (1 - p_T + kTiny)).log();
  const at::Tensor up_T = (kl_T <= config.clip_high).logical_or(p_T <= q_T);
  const at::Tensor down_T = (kl_T <= config.clip_low).logical_or(p_T >= q_T);
  const at::Tensor keep_T = at::where(clean.advantages_T > 0, up_T, down_T);
  return KeptTokensTerm(input, keep_T, metrics);
}

void DppoKlDefaults(LossConfig& config) { DppoDefaults(config, 0.05); }

RFT_REGISTER_POLICY_LOSS("dppo-kl", DppoKl, &DppoKlSurrogate, &DppoKlDefaults);

}  // namespace
}  // namespace rft
