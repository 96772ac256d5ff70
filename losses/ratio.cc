#include "losses/ratio.h"

#include <ATen/TensorOperators.h>

namespace rft {

at::Tensor LogRatio(RatioLevel level, const at::Tensor& logprobs_T,
                    const at::Tensor& old_logprobs_T, const PackedRows& rows,
                    const LossConfig& config) {
  at::Tensor log_ratio_T;
  if (level == RatioLevel::kToken) {
    log_ratio_T = logprobs_T - old_logprobs_T;
  } else {
    const at::Tensor constant_T = logprobs_T.detach();
    const at::Tensor mean_R =
        rows.RowMean(constant_T.to(at::kDouble) - old_logprobs_T.to(at::kDouble));
    log_ratio_T = (logprobs_T - constant_T) + rows.Spread(mean_R, constant_T);
  }
  if (config.log_ratio_cap)
    log_ratio_T = log_ratio_T.clamp(-*config.log_ratio_cap, *config.log_ratio_cap);
  if (config.log_ratio_cap_max) log_ratio_T = log_ratio_T.clamp_max(*config.log_ratio_cap_max);
  return log_ratio_T;
}

}  // namespace rft
