#include "losses/policy_loss.h"

#include <torch/csrc/autograd/autograd.h>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/masked_select.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/zeros_like.h>

#include "losses/aggregate.h"
#include "losses/clip.h"
#include "losses/fused_clip.h"
#include "losses/kl.h"
#include "losses/ratio.h"
#include "losses/validate.h"

namespace rft {
namespace {

// Metrics clamp log ratios to this, so that one wild token does not hide the rest behind Inf.
constexpr double kMetricLogRatioCap = 20.0;

// The input in float64 with inactive tokens read as zeros: whatever they held cannot reach a value,
// a statistic or a gradient.
LossInput Clean(const LossInput& input, const PackedRows& rows) {
  LossInput clean = input;
  clean.logprobs_T = rows.ZeroInactive(input.logprobs_T.to(at::kDouble));
  if (input.entropy_T.defined())
    clean.entropy_T = rows.ZeroInactive(input.entropy_T.to(at::kDouble));
  for (at::Tensor* x_T : {&clean.old_logprobs_T, &clean.sampling_logprobs_T, &clean.ref_logprobs_T,
                          &clean.advantages_T, &clean.sft_weights_T, &clean.held_logprobs_T}) {
    if (x_T->defined()) *x_T = rows.ZeroInactive(x_T->detach().to(at::kDouble));
  }
  if (!clean.sampling_logprobs_T.defined()) clean.sampling_logprobs_T = clean.old_logprobs_T;
  if (!clean.held_logprobs_T.defined()) clean.held_logprobs_T = clean.logprobs_T.detach();
  return clean;
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
  if (clean.entropy_T.defined()) metrics->AddSum("entropy", clean.entropy_T);
  if (!clean.ref_logprobs_T.defined()) return;
  metrics->AddSum("ref_kl_k1", KlEstimate(KlEstimator::kK1, lp_T, lp_T, clean.ref_logprobs_T));
  metrics->AddSum("ref_kl_k2", KlEstimate(KlEstimator::kK2, lp_T, lp_T, clean.ref_logprobs_T));
  metrics->AddSum("ref_kl_k3", KlEstimate(KlEstimator::kK3, lp_T, lp_T, clean.ref_logprobs_T));
}

// Rows of negative advantage whose policy has moved away (2512.02556 eq. 9): true = keep.
at::Tensor OffPolicyKeep(const OffPolicyMask& mask, const LossInput& clean,
                         const PackedRows& rows) {
  at::NoGradGuard no_grad;
  const at::Tensor& behaviour_T = mask.against == OffPolicyMask::Against::kSampling
                                      ? clean.sampling_logprobs_T
                                      : clean.old_logprobs_T;
  const at::Tensor drift_T =
      rows.Spread(rows.RowMean(behaviour_T - clean.held_logprobs_T), clean.logprobs_T);
  return (clean.advantages_T >= 0).logical_or(drift_T <= mask.delta);
}

// The most uncertain tokens of the call (2506.01939): entropy at or above the quantile.
at::Tensor TopEntropyKeep(double fraction, const LossInput& clean, const PackedRows& rows) {
  at::NoGradGuard no_grad;
  const at::Tensor active_N = clean.entropy_T.detach().masked_select(rows.active_T());
  if (active_N.numel() == 0) return rows.active_T();
  const at::Tensor threshold = at::quantile(active_N, 1.0 - fraction);
  return (clean.entropy_T.detach() >= threshold).logical_and(rows.active_T());
}

at::Tensor KlTerm(const SurrogateInput& in) {
  const LossConfig& config = in.config;
  const at::Tensor& held_T = in.clean.held_logprobs_T;
  at::Tensor kl_T =
      KlEstimate(config.kl_estimator, config.kl_detached ? held_T : in.clean.logprobs_T, held_T,
                 in.clean.ref_logprobs_T);
  if (config.kl_times_ratio) kl_T = kl_T * in.log_ratio_T.exp();
  return config.kl_coef * kl_T;
}

at::Tensor SftTerm(const LossInput& clean, double coef) {
  const at::Tensor weights_T = clean.sft_weights_T.defined()
                                   ? clean.sft_weights_T
                                   : (clean.advantages_T > 0).to(at::kDouble);
  return -coef * weights_T * clean.logprobs_T;
}

// Sum of the terms; each one's squared gradient goes into the metrics when asked for.
class Terms {
 public:
  Terms(const LossInput& input, const PackedRows& rows, const LossConfig& config,
        MetricCollector* metrics)
      : input_(input), rows_(rows), config_(config), metrics_(metrics) {}

  void Add(const char* name, const at::Tensor& term_T) {
    total_T_ = total_T_.defined() ? total_T_ + term_T : term_T;
    if (!config_.term_gradients || !term_T.requires_grad()) return;
    const at::Tensor sum = AggregateSum(rows_.ZeroInactive(term_T), rows_, config_);
    const at::Tensor gradient_T =
        torch::autograd::grad({sum}, {input_.logprobs_T}, {}, /*retain_graph=*/true,
                              /*create_graph=*/false, /*allow_unused=*/true)[0];
    if (!gradient_T.defined()) return;
    metrics_->AddSum(std::string("grad_sq_") + name, gradient_T.to(at::kDouble).square());
  }

  at::Tensor Sum() const { return AggregateSum(rows_.ZeroInactive(total_T_), rows_, config_); }

 private:
  const LossInput& input_;
  const PackedRows& rows_;
  const LossConfig& config_;
  MetricCollector* const metrics_;
  at::Tensor total_T_;
};

// The policy's own term: surrogate, masks, correction.
at::Tensor PolicyTerm(Surrogate surrogate, const SurrogateInput& in, MetricCollector* metrics) {
  const SurrogateTerm term = surrogate(in, metrics);
  at::Tensor loss_T = term.loss_T;
  at::Tensor live_T = term.live_T.defined() ? term.live_T : in.clean.advantages_T != 0;
  const auto keep = [&](const at::Tensor& keep_T) {
    loss_T = loss_T * keep_T;
    live_T = live_T.logical_and(keep_T);
  };
  if (in.config.off_policy_mask) {
    const at::Tensor keep_T = OffPolicyKeep(*in.config.off_policy_mask, in.clean, in.rows);
    metrics->AddSum("opsm_frac", keep_T.logical_not());
    keep(keep_T);
  }
  if (in.config.top_entropy) keep(TopEntropyKeep(*in.config.top_entropy, in.clean, in.rows));
  if (in.correction != nullptr) {
    AddCorrectionMetrics(*in.correction, metrics);
    if (!term.is_corrected) {
      loss_T = loss_T * in.correction->weight_T;
      live_T = live_T.logical_and(in.correction->weight_T != 0);
    }
  }
  metrics->AddSum("gradient_frac", live_T);
  return term.uncorrected_T.defined() ? loss_T + term.uncorrected_T : loss_T;
}

}  // namespace

LossOutput PolicyLoss(Surrogate surrogate, const LossInput& input, const LossConfig& config) {
  CheckLossConfig(config);
  CheckPolicyInput(input, config);
  if (surrogate == &ClipSurrogate && CanFuseClip(input, config))
    return FusedClipLoss(input, config);

  const PackedRows rows(input.mask_T, input.row_offsets_R1);
  const LossInput clean = Clean(input, rows);
  MetricCollector metrics(rows);
  const at::Tensor row_shift_T = RowShift(input, clean, rows, config);
  const at::Tensor log_ratio_T = LogRatio(clean.logprobs_T, clean, row_shift_T, rows, config);
  std::optional<CorrectionWeights> correction;
  if (config.correction) {
    correction = ComputeCorrection(*config.correction, clean.old_logprobs_T,
                                   clean.sampling_logprobs_T, rows);
  }
  const SurrogateInput in{
      clean, log_ratio_T, LogRatio(clean.held_logprobs_T, clean, row_shift_T, rows, config),
      rows,  config,      correction ? &*correction : nullptr};
  Terms terms(input, rows, config, &metrics);
  terms.Add("policy", PolicyTerm(surrogate, in, &metrics));
  if (config.kl_coef != 0.0 && config.kl_target == KlTarget::kLoss) terms.Add("kl", KlTerm(in));
  if (config.entropy_coef != 0.0) terms.Add("entropy", -config.entropy_coef * clean.entropy_T);
  if (config.sft_coef != 0.0) terms.Add("sft", SftTerm(clean, config.sft_coef));
  AddDivergenceMetrics(clean, &metrics);

  LossOutput output;
  output.sum = terms.Sum().to(input.logprobs_T.scalar_type());
  metrics.Finish(config, &output);
  return output;
}

}  // namespace rft
