#include "losses/clip.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

namespace rft {
namespace {

struct Branches {
  at::Tensor value_T;      // without gradient
  at::Tensor ratio_T;      // min(r, delta)
  at::Tensor live_T;       // bool: the token's loss is -r A, with gradient
  at::Tensor clip_low_T;   // bool: r < 1 - clip_low and A < 0
  at::Tensor clip_high_T;  // bool: r > 1 + clip_high and A > 0
  at::Tensor clip_T;       // bool: the clipped branch is strictly larger
  at::Tensor outside_T;    // bool: r outside the bounds whatever A
  at::Tensor dual_T;       // bool: -c A was used; undefined without dual clip
};

Branches Decide(const at::Tensor& ratio_T, const at::Tensor& advantages_T,
                const LossConfig& config) {
  at::NoGradGuard no_grad;
  const double low = 1.0 - config.clip_low, high = 1.0 + config.clip_high;
  Branches s;
  const at::Tensor clipped_T = ratio_T.clamp(low, high);
  s.ratio_T = config.delta ? ratio_T.clamp_max(*config.delta) : ratio_T;
  const at::Tensor has_advantage_T = advantages_T != 0;
  const at::Tensor zero_T = at::zeros_like(ratio_T);
  // Inf * 0 would be NaN: no advantage is no loss.
  const at::Tensor unclipped_loss_T = at::where(has_advantage_T, -s.ratio_T * advantages_T, zero_T);
  const at::Tensor clipped_loss_T = -clipped_T * advantages_T;
  s.clip_T = clipped_loss_T > unclipped_loss_T;
  s.clip_low_T = (s.ratio_T < low).logical_and(advantages_T < 0);
  s.clip_high_T = (s.ratio_T > high).logical_and(advantages_T > 0);
  s.outside_T = clipped_T != s.ratio_T;
  s.value_T = at::where(s.clip_T, clipped_loss_T, unclipped_loss_T);
  s.live_T =
      at::where(s.clip_T, clipped_T == ratio_T, s.ratio_T == ratio_T).logical_and(has_advantage_T);
  if (config.dual_clip) {
    const at::Tensor bound_T = -*config.dual_clip * advantages_T;
    s.dual_T = (s.value_T > bound_T).logical_and(advantages_T < 0);
    s.value_T = at::where(s.dual_T, bound_T, s.value_T);
    s.live_T = s.live_T.logical_and(s.dual_T.logical_not());
  }
  return s;
}

}  // namespace

SurrogateTerm ClipSurrogate(const SurrogateInput& input, MetricCollector* metrics) {
  const at::Tensor& advantages_T = input.clean.advantages_T;
  const Branches b = Decide(input.log_ratio_T.detach().exp(), advantages_T, input.config);
  metrics->AddRatio(b.ratio_T);
  metrics->AddSum("clip_frac", b.clip_T);
  metrics->AddSum("clip_frac_low", b.clip_low_T);
  metrics->AddSum("clip_frac_high", b.clip_high_T);
  metrics->AddSum("clip_frac_region", b.outside_T);
  if (b.dual_T.defined()) metrics->AddSum("dual_clip_frac", b.dual_T);
  const at::Tensor safe_log_ratio_T =
      at::where(b.live_T, input.log_ratio_T, at::zeros_like(b.ratio_T));
  SurrogateTerm term;
  term.loss_T = at::where(b.live_T, -safe_log_ratio_T.exp() * advantages_T, b.value_T);
  term.live_T = b.live_T;
  return term;
}

void RowRatioDefaults(RatioLevel level, LossConfig& config) {
  config.ratio_level = level;
  config.clip_low = 3e-4;
  config.clip_high = 4e-4;
  config.log_ratio_cap_max = 10.0;
}

}  // namespace rft
