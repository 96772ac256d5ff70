// "gmpo": the geometric mean of the row's clipped token ratios times the row's advantage
// (Geometric-Mean Policy Optimization; verl's geo_mean).
//   u_t = sign(A) min(sign(A) lr_t, sign(A) clamp(lr_t, -clip_low, clip_high))
//   J = (1/B) sum_i -A_i exp((1/|y_i|) sum_t u_t),   B counts rows without active tokens too
// The bounds are of the log ratio. The correction weight of a row is the geometric mean of its
// tokens'. Row-level: use one advantage per row. Source: 2507.20673 eq. 3-5. Checked by
// tests/losses/loss_oracle_test.cc, preset verl.geo_mean.
#include <ATen/TensorOperators.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/where.h>

#include "losses/policy_loss.h"

namespace rft {
namespace {

SurrogateTerm GmpoSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const LossConfig& config = input.config;
  const PackedRows& rows = input.rows;
  const at::Tensor& log_ratio_T = input.log_ratio_T;
  const at::Tensor sign_T = input.clean.advantages_T.sign();
  const at::Tensor clipped_T = log_ratio_T.clamp(-config.clip_low, config.clip_high);
  const at::Tensor held_T = input.held_log_ratio_T;
  const at::Tensor outside_T = held_T.clamp(-config.clip_low, config.clip_high) != held_T;
  metrics->AddRatio(held_T.exp());
  metrics->AddSum("clip_frac_region", outside_T);
  const at::Tensor kept_T = sign_T * at::minimum(sign_T * log_ratio_T, sign_T * clipped_T);
  const at::Tensor advantage_T = rows.Spread(rows.RowMean(input.clean.advantages_T), log_ratio_T);
  SurrogateTerm term;
  term.loss_T = -advantage_T * rows.SpreadMean(kept_T).exp();
  term.is_corrected = true;
  if (input.correction != nullptr) {
    const at::Tensor log_weight_T = (input.correction->weight_T + 1e-10).log();
    term.loss_T = term.loss_T * rows.Spread(rows.RowMean(log_weight_T).exp(), log_ratio_T);
  }
  return term;
}

void GmpoDefaults(LossConfig& config) {
  config.clip_low = 0.4;
  config.clip_high = 0.4;
  config.row_denominator = RowDenominator::kAll;
}

RFT_REGISTER_POLICY_LOSS("gmpo", Gmpo, &GmpoSurrogate, &GmpoDefaults);

}  // namespace
}  // namespace rft
