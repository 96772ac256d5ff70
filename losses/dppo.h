// What dppo-tv and dppo-kl share (2602.04879): the policy gradient weighted by a capped, constant ratio, without the tokens
// that a trust region takes out of the update. They differ in the region only.
#pragma once

#include <ATen/TensorOperators.h>

#include "losses/policy_loss.h"

namespace rft {

// keep_T: bool [T], false where the region takes a token out.
inline SurrogateTerm KeptTokensTerm(const SurrogateInput& input, const at::Tensor& keep_T,
                                    MetricCollector* metrics) {
  const at::Tensor ratio_T = input.held_log_ratio_T.exp();
  metrics->AddRatio(ratio_T);
  metrics->AddSum("clip_frac", keep_T.logical_not());
  metrics->AddSum("clip_frac_region", keep_T.logical_not());
  const at::Tensor weight_T = input.config.delta ? ratio_T.clamp_max(*input.config.delta) : ratio_T;
  return {.loss_T = -weight_T * keep_T * input.clean.advantages_T * input.clean.logprobs_T,
          .live_T = keep_T.logical_and(input.clean.advantages_T != 0)};
}

// `bound`: both sides of the region.
inline void DppoDefaults(LossConfig& config, double bound) {
  config.clip_low = bound;
  config.clip_high = bound;
  config.delta = 20.0;
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
}

}  // namespace rft
