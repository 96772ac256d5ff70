#include "losses/validate.h"

#include <cmath>

#include <c10/util/Exception.h>

namespace rft {

void CheckCommonInput(const LossInput& input) {
  const at::Tensor& logprobs_T = input.logprobs_T;
  TORCH_CHECK(logprobs_T.defined() && logprobs_T.dim() == 1,
              "logprobs_T: expected one dimension of packed tokens");
  TORCH_CHECK(logprobs_T.scalar_type() == at::kFloat || logprobs_T.scalar_type() == at::kDouble,
              "logprobs_T: expected float32 or float64, got ", logprobs_T.scalar_type(),
              " (half precision loses the log-ratio: convert before the loss)");
  CheckConstant(input, input.mask_T, "mask_T", "every loss needs it");
}

void CheckConstant(const LossInput& input, const at::Tensor& constant_T, const char* name,
                   const char* why) {
  const at::Tensor& like_T = input.logprobs_T;
  TORCH_CHECK(constant_T.defined(), name, ": missing; ", why);
  TORCH_CHECK(constant_T.sizes() == like_T.sizes(), name, ": expected shape ", like_T.sizes(),
              " as logprobs_T, got ", constant_T.sizes());
  TORCH_CHECK(constant_T.scalar_type() == like_T.scalar_type(), name, ": expected ",
              like_T.scalar_type(), " as logprobs_T, got ", constant_T.scalar_type());
  TORCH_CHECK(constant_T.device() == like_T.device(), name, ": expected on ", like_T.device(),
              " as logprobs_T, got ", constant_T.device());
}

void CheckKlIsInTheLoss(const LossConfig& config) {
  TORCH_CHECK(
      config.kl_coef == 0.0 || config.kl_target == KlTarget::kLoss,
      "losses.kl_target: reward and advantage are for runs, which make the advantages; here "
      "they are given: use kl_target loss, or take kl_coef times the KL off the rewards or "
      "advantages yourself and leave kl_target and kl_coef out");
}

void CheckPolicyInput(const LossInput& input, const LossConfig& config) {
  CheckKlIsInTheLoss(config);
  CheckCommonInput(input);
  CheckConstant(input, input.old_logprobs_T, "old_logprobs_T",
                "a policy loss needs the log-probabilities before the step");
  CheckConstant(input, input.advantages_T, "advantages_T",
                "a policy loss needs one advantage per token");
  if (input.sampling_logprobs_T.defined())
    CheckConstant(input, input.sampling_logprobs_T, "sampling_logprobs_T", "");
  if (input.ref_logprobs_T.defined() || config.kl_coef != 0.0) {
    CheckConstant(input, input.ref_logprobs_T, "ref_logprobs_T",
                  "kl_coef is not 0, so a reference model's log-probabilities are needed");
  }
  if (input.entropy_T.defined() || config.entropy_coef != 0.0 || config.top_entropy) {
    CheckConstant(input, input.entropy_T, "entropy_T",
                  "entropy_coef or top_entropy is set, so the tokens' entropies are needed");
  }
  if (input.sft_weights_T.defined()) CheckConstant(input, input.sft_weights_T, "sft_weights_T", "");
  if (input.held_logprobs_T.defined())
    CheckConstant(input, input.held_logprobs_T, "held_logprobs_T", "");
}

namespace {

void CheckRange(bool good, const char* name, const char* expected, double value) {
  TORCH_CHECK(good, "losses.", name, ": expected ", expected, ", got ", value);
}

// In rewards and advantages the KL is a number: nothing is differentiated, and there is no ratio yet.
void CheckKlTarget(const LossConfig& c) {
  if (c.kl_target == KlTarget::kLoss) return;
  const char* where = c.kl_target == KlTarget::kReward ? "reward" : "advantage";
  TORCH_CHECK(!c.kl_times_ratio, "losses.kl_times_ratio: means nothing with kl_target ", where,
              ", where there is no ratio yet: set it to false, or kl_target to loss");
  TORCH_CHECK(!c.kl_detached, "losses.kl_detached: means nothing with kl_target ", where,
              ", where the KL has no gradient anyway: set it to false, or kl_target to loss");
  TORCH_CHECK(c.kl_estimator != KlEstimator::kK1Plus && c.kl_estimator != KlEstimator::kK3Plus,
              "losses.kl_estimator: k1+ and k3+ differ from k1 and k3 by their gradient, and with "
              "kl_target ",
              where, " there is none: use k1 or k3");
}

void CheckOwnKnobs(const LossConfig& c) {
  CheckRange(c.dro.beta >= 0.0, "dro.beta", "at least 0", c.dro.beta);
  CheckRange(c.sapo.tau_positive > 0.0, "sapo.tau_positive", "more than 0", c.sapo.tau_positive);
  CheckRange(c.sapo.tau_negative > 0.0, "sapo.tau_negative", "more than 0", c.sapo.tau_negative);
  CheckRange(c.covariance.fraction > 0.0 && c.covariance.fraction <= 1.0, "covariance.fraction",
             "more than 0, at most 1", c.covariance.fraction);
  CheckRange(c.covariance.low < c.covariance.high, "covariance.low", "less than covariance.high",
             c.covariance.low);
  CheckRange(c.covariance.kl_coef >= 0.0, "covariance.kl_coef", "at least 0", c.covariance.kl_coef);
}

}  // namespace

void CheckLossConfig(const LossConfig& config) {
  TORCH_CHECK(config.clip_low >= 0.0 && config.clip_low <= 1.0,
              "losses.clip_low: expected 0 to 1, got ", config.clip_low);
  TORCH_CHECK(config.clip_high >= 0.0, "losses.clip_high: expected at least 0, got ",
              config.clip_high);
  TORCH_CHECK(!config.dual_clip || *config.dual_clip > 1.0,
              "losses.dual_clip: expected more than 1, got ", config.dual_clip.value_or(0.0));
  TORCH_CHECK(!config.delta || *config.delta > 0.0, "losses.delta: expected more than 0, got ",
              config.delta.value_or(0.0));
  TORCH_CHECK(!config.log_ratio_cap || *config.log_ratio_cap > 0.0,
              "losses.log_ratio_cap: expected more than 0, got ",
              config.log_ratio_cap.value_or(0.0));
  TORCH_CHECK(!config.log_ratio_cap_max || *config.log_ratio_cap_max > 0.0,
              "losses.log_ratio_cap_max: expected more than 0, got ",
              config.log_ratio_cap_max.value_or(0.0));
  TORCH_CHECK(config.agg_norm > 0.0 && std::isfinite(config.agg_norm),
              "losses.agg_norm: expected more than 0, got ", config.agg_norm);
  TORCH_CHECK(config.kl_coef >= 0.0 && std::isfinite(config.kl_coef),
              "losses.kl_coef: expected at least 0, got ", config.kl_coef);
  CheckRange(!config.top_entropy || (*config.top_entropy > 0.0 && *config.top_entropy <= 1.0),
             "top_entropy", "more than 0, at most 1", config.top_entropy.value_or(0.0));
  CheckRange(std::isfinite(config.entropy_coef), "entropy_coef", "a number", config.entropy_coef);
  CheckRange(config.sft_coef >= 0.0 && std::isfinite(config.sft_coef), "sft_coef", "at least 0",
             config.sft_coef);
  CheckRange(!config.off_policy_mask || config.off_policy_mask->delta >= 0.0,
             "off_policy_mask.delta", "at least 0",
             config.off_policy_mask ? config.off_policy_mask->delta : 0.0);
  TORCH_CHECK(!config.row_mean_over_masked || config.ratio_level == RatioLevel::kSequenceToken,
              "losses.row_mean_over_masked: needs ratio_level sequence-token (at level sequence "
              "masked tokens would get a gradient)");
  CheckKlTarget(config);
  CheckOwnKnobs(config);
  if (!config.correction) return;
  const ImportanceCorrection& correction = *config.correction;
  TORCH_CHECK(correction.cap > 0.0, "losses.correction.cap: expected more than 0, got ",
              correction.cap);
  TORCH_CHECK(
      !correction.floor || (*correction.floor >= 0.0 && *correction.floor <= correction.cap),
      "losses.correction.floor: expected 0 to the cap of ", correction.cap, ", got ",
      correction.floor.value_or(0.0));
  TORCH_CHECK(correction.log_cap > 0.0, "losses.correction.log_cap: expected more than 0, got ",
              correction.log_cap);
  TORCH_CHECK(!correction.icepop || *correction.icepop >= 1.0,
              "losses.correction.icepop: expected at least 1, got ",
              correction.icepop.value_or(0.0));
}

}  // namespace rft
