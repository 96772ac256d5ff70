#include "losses/ratio.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

namespace rft {
namespace {

const at::Tensor& AnchorOf(const LossInput& input, const LossConfig& config) {
  const bool sampling =
      config.ratio_anchor == RatioAnchor::kSampling && input.sampling_logprobs_T.defined();
  return sampling ? input.sampling_logprobs_T : input.old_logprobs_T;
}

}  // namespace

at::Tensor RowShift(const LossInput& input, const LossInput& clean, const PackedRows& rows,
                    const LossConfig& config) {
  at::NoGradGuard no_grad;
  if (config.ratio_level == RatioLevel::kToken) return {};
  if (!config.row_mean_over_masked) {
    return rows.Spread(rows.RowMean(clean.held_logprobs_T - AnchorOf(clean, config)),
                       clean.held_logprobs_T);
  }
  const at::Tensor held_T =
      input.held_logprobs_T.defined() ? input.held_logprobs_T : input.logprobs_T.detach();
  const at::Tensor moved_T = held_T.to(at::kDouble) - AnchorOf(input, config).to(at::kDouble);
  return rows.Spread(rows.RowMeanOfAll(moved_T), clean.held_logprobs_T);
}

at::Tensor LogRatio(const at::Tensor& logprobs_T, const LossInput& clean,
                    const at::Tensor& row_shift_T, const PackedRows& rows,
                    const LossConfig& config) {
  at::Tensor log_ratio_T;
  switch (config.ratio_level) {
    case RatioLevel::kToken:
      log_ratio_T = logprobs_T - AnchorOf(clean, config);
      break;
    case RatioLevel::kSequence:
      log_ratio_T = rows.SpreadMean(logprobs_T - clean.held_logprobs_T) + row_shift_T;
      break;
    case RatioLevel::kSequenceToken:
      log_ratio_T = (logprobs_T - clean.held_logprobs_T) + row_shift_T;
      break;
  }
  if (config.log_ratio_cap)
    log_ratio_T = log_ratio_T.clamp(-*config.log_ratio_cap, *config.log_ratio_cap);
  if (config.log_ratio_cap_max) log_ratio_T = log_ratio_T.clamp_max(*config.log_ratio_cap_max);
  return log_ratio_T;
}

}  // namespace rft
