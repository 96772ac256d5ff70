#include "losses/clip.h"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

namespace rft {
namespace {

struct Branches {
  ClippedSurrogate stats;  // loss_T holds the value without gradient
  at::Tensor live_T;       // bool: the token's loss is -r A, with gradient
};

Branches Decide(const at::Tensor& ratio_T, const at::Tensor& advantages_T,
                const LossConfig& config) {
  at::NoGradGuard no_grad;
  const double low = 1.0 - config.clip_low, high = 1.0 + config.clip_high;
  Branches b;
  ClippedSurrogate& s = b.stats;
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
  s.loss_T = at::where(s.clip_T, clipped_loss_T, unclipped_loss_T);
  b.live_T =
      at::where(s.clip_T, clipped_T == ratio_T, s.ratio_T == ratio_T).logical_and(has_advantage_T);
  if (config.dual_clip) {
    const at::Tensor bound_T = -*config.dual_clip * advantages_T;
    s.dual_T = (s.loss_T > bound_T).logical_and(advantages_T < 0);
    s.loss_T = at::where(s.dual_T, bound_T, s.loss_T);
    b.live_T = b.live_T.logical_and(s.dual_T.logical_not());
  }
  return b;
}

}  // namespace

ClippedSurrogate ClipSurrogate(const at::Tensor& log_ratio_T, const at::Tensor& advantages_T,
                               const LossConfig& config) {
  Branches b = Decide(log_ratio_T.detach().exp(), advantages_T, config);
  const at::Tensor safe_log_ratio_T =
      at::where(b.live_T, log_ratio_T, at::zeros_like(b.stats.ratio_T));
  b.stats.loss_T = at::where(b.live_T, -safe_log_ratio_T.exp() * advantages_T, b.stats.loss_T);
  return std::move(b.stats);
}

}  // namespace rft
