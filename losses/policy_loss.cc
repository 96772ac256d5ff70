#include "losses/policy_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "losses/aggregate.h"
#include "losses/clip.h"
#include "losses/correction.h"
#include "losses/kl.h"
#include "losses/metrics.h"
#include "losses/packed_rows.h"
#include "losses/validate.h"

namespace rft {
namespace {

// Metrics clamp log ratios to this, so that one wild token does not hide the rest behind Inf.
constexpr double kMetricLogRatioCap = 20.0;

// The input with inactive tokens read as zeros: whatever they held cannot reach a value, a
// statistic or a gradient.
LossInput ZeroInactive(const LossInput& input, const PackedRows& rows) {
  LossInput clean = input;
  for (at::Tensor* x_T : {&clean.logprobs_T, &clean.old_logprobs_T, &clean.sampling_logprobs_T,
                          &clean.ref_logprobs_T, &clean.advantages_T}) {
    if (x_T->defined()) *x_T = rows.ZeroInactive(x_T == &clean.logprobs_T ? *x_T : x_T->detach());
  }
  if (!clean.sampling_logprobs_T.defined()) clean.sampling_logprobs_T = clean.old_logprobs_T;
  return clean;
}

void AddRatioMetrics(const ClippedSurrogate& clip, MetricCollector* metrics) {
  metrics->AddSum("ratio_mean", clip.ratio_T);
  metrics->AddMin("ratio_min", clip.ratio_T);
  metrics->AddMax("ratio_max", clip.ratio_T);
  metrics->AddSum("clip_frac", clip.clip_T);
  metrics->AddSum("clip_frac_low", clip.clip_low_T);
  metrics->AddSum("clip_frac_high", clip.clip_high_T);
  metrics->AddSum("clip_frac_region", clip.outside_T);
  if (clip.dual_T.defined()) metrics->AddSum("dual_clip_frac", clip.dual_T);
}

void AddCorrectionMetrics(const CorrectionWeights& correction, MetricCollector* metrics) {
  metrics->AddSum("tis_mean", correction.weight_T);
  metrics->AddSum("tis_sq_mean", correction.weight_T * correction.weight_T);
  metrics->AddMax("tis_max", correction.weight_T);
  metrics->AddSum("tis_clip_frac", correction.weight_T != correction.raw_T);
}

void AddDivergenceMetrics(const LossInput& clean, MetricCollector* metrics) {
  at::NoGradGuard no_grad;
  const at::Tensor lp_T = clean.logprobs_T.detach();
  const at::Tensor log_ratio_T = lp_T - clean.old_logprobs_T;
  const at::Tensor capped_T = log_ratio_T.clamp(-kMetricLogRatioCap, kMetricLogRatioCap);
  metrics->AddSum("approx_kl_k1", -log_ratio_T);
  metrics->AddSum("approx_kl_k3", capped_T.expm1() - capped_T);
  const at::Tensor mismatch_T = clean.old_logprobs_T - clean.sampling_logprobs_T;
  const at::Tensor mismatch_capped_T = mismatch_T.clamp(-kMetricLogRatioCap, kMetricLogRatioCap);
  metrics->AddSum("mismatch_k1", -mismatch_T);
  metrics->AddSum("mismatch_k3", mismatch_capped_T.expm1() - mismatch_capped_T);
  metrics->AddSum("mismatch_abs_mean", mismatch_T.abs());
  metrics->AddMax("mismatch_abs_max", mismatch_T.abs());
  if (!clean.ref_logprobs_T.defined()) return;
  metrics->AddSum("ref_kl_k1", KlEstimate(KlEstimator::kK1, lp_T, clean.ref_logprobs_T));
  metrics->AddSum("ref_kl_k2", KlEstimate(KlEstimator::kK2, lp_T, clean.ref_logprobs_T));
  metrics->AddSum("ref_kl_k3", KlEstimate(KlEstimator::kK3, lp_T, clean.ref_logprobs_T));
}

}  // namespace

LossOutput ClippedPolicyLoss(RatioLevel level, const LossInput& input, const LossConfig& config) {
  CheckLossConfig(config);
  CheckPolicyInput(input, config);
  const PackedRows rows(input.mask_T, input.row_offsets_R1);
  const LossInput clean = ZeroInactive(input, rows);
  MetricCollector metrics(rows);

  const at::Tensor log_ratio_T =
      LogRatio(level, clean.logprobs_T, clean.old_logprobs_T, rows, config);
  const ClippedSurrogate clip = ClipSurrogate(log_ratio_T, clean.advantages_T, config);
  AddRatioMetrics(clip, &metrics);
  at::Tensor loss_T = clip.loss_T;
  if (config.correction) {
    const CorrectionWeights correction = ComputeCorrection(*config.correction, clean.old_logprobs_T,
                                                           clean.sampling_logprobs_T, rows);
    AddCorrectionMetrics(correction, &metrics);
    loss_T = loss_T * correction.weight_T;
  }
  if (config.kl_coef != 0.0) {
    loss_T = loss_T + config.kl_coef *
                          KlEstimate(config.kl_estimator, clean.logprobs_T, clean.ref_logprobs_T);
  }
  AddDivergenceMetrics(clean, &metrics);

  LossOutput output;
  output.sum = AggregateSum(rows.ZeroInactive(loss_T), rows, config);
  metrics.Finish(config, &output);
  return output;
}

}  // namespace rft
