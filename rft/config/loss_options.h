// The `losses:` section: a loss's name and overrides for its knobs. Unset means the loss's own
// default, so everything here is optional until ApplyTo lays it over LossConfig defaults
// (Loss::DefaultConfig()).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rft/config/field.h"
#include "rft/core/loss_config.h"

namespace rft {

struct CorrectionOptions {
  std::optional<std::string> level;
  std::optional<std::string> mode;
  std::optional<double> cap;
  std::optional<double> floor;
  std::optional<double> log_cap;
  std::optional<double> icepop;

  void Visit(ConfigVisitor& v) {
    v.Field("level", &level,
            {.doc = "What the train / inference ratio is taken over; none: no correction.",
             .choices = {"token", "sequence-geometric", "sequence-product", "none"}});
    v.Field("mode", &mode,
            {.doc = "What happens to a ratio beyond the bounds.", .choices = {"truncate", "mask"}});
    v.Field("cap", &cap, {.doc = "Upper bound of the ratio.", .above = 0});
    v.Field("floor", &floor, {.doc = "Lower bound of the ratio.", .min = 0});
    v.Field("log_cap", &log_cap,
            {.doc = "|log ratio| is clamped to this before exp; 0: not clamped.",
             .unit = "nats",
             .min = 0});
    v.Field("icepop", &icepop, {.doc = "Zero outside [1/icepop, icepop]; 0: off.", .min = 0});
  }
};

struct OffPolicyMaskOptions {
  std::optional<double> delta;
  std::optional<std::string> against;

  void Visit(ConfigVisitor& v) {
    v.Field("delta", &delta,
            {.doc = "Rows of negative advantage that moved further than this from the behaviour "
                    "policy are left out; 0: off.",
             .unit = "nats",
             .min = 0});
    v.Field("against", &against,
            {.doc = "Which log-probabilities the move is measured from.",
             .choices = {"sampling", "old"}});
  }
};

struct DroOptions {
  std::optional<double> beta;
  std::optional<bool> gate_zero_advantage;

  void Visit(ConfigVisitor& v) {
    v.Field("beta", &beta, {.doc = "Weight of the quadratic penalty.", .min = 0});
    v.Field("gate_zero_advantage", &gate_zero_advantage,
            {.doc = "No penalty where the advantage is 0."});
  }
};

struct SapoOptions {
  std::optional<double> tau_positive;
  std::optional<double> tau_negative;

  void Visit(ConfigVisitor& v) {
    v.Field("tau_positive", &tau_positive,
            {.doc = "Temperature of the gate for a positive advantage.", .above = 0});
    v.Field("tau_negative", &tau_negative,
            {.doc = "Temperature of the gate otherwise.", .above = 0});
  }
};

struct VespoOptions {
  std::optional<double> k_positive;
  std::optional<double> lambda_positive;
  std::optional<double> k_negative;
  std::optional<double> lambda_negative;

  void Visit(ConfigVisitor& v) {
    v.Field("k_positive", &k_positive, {.doc = "k for an advantage of at least 0."});
    v.Field("lambda_positive", &lambda_positive, {.doc = "lambda for an advantage of at least 0."});
    v.Field("k_negative", &k_negative, {.doc = "k for a negative advantage."});
    v.Field("lambda_negative", &lambda_negative, {.doc = "lambda for a negative advantage."});
  }
};

struct CovarianceOptions {
  std::optional<double> fraction;
  std::optional<double> low;
  std::optional<double> high;
  std::optional<double> kl_coef;

  void Visit(ConfigVisitor& v) {
    v.Field("fraction", &fraction,
            {.doc = "Tokens chosen, as a part of the active ones.", .above = 0, .max = 1});
    v.Field("low", &low, {.doc = "clip-cov: smallest covariance of a chosen token."});
    v.Field("high", &high, {.doc = "clip-cov: largest covariance of a chosen token."});
    v.Field("kl_coef", &kl_coef,
            {.doc = "kl-cov: weight of |log ratio| on the chosen tokens.", .min = 0});
  }
};

struct LossOptions {
  std::string name = "grpo";
  std::optional<double> clip_low;
  std::optional<double> clip_high;
  std::optional<double> dual_clip;
  std::optional<double> delta;
  std::optional<double> log_ratio_cap;
  std::optional<double> log_ratio_cap_max;
  std::optional<std::string> aggregation;
  std::optional<double> agg_norm;
  std::optional<double> kl_coef;
  std::optional<std::string> kl_estimator;
  std::optional<std::string> kl_target;
  std::optional<bool> kl_times_ratio;
  std::optional<bool> kl_detached;
  std::optional<std::string> ratio_level;
  std::optional<std::string> ratio_anchor;
  std::optional<bool> row_mean_over_masked;
  std::optional<std::string> row_denominator;
  std::optional<double> top_entropy;
  std::optional<double> entropy_coef;
  std::optional<double> sft_coef;
  std::optional<bool> term_gradients;
  CorrectionOptions correction;
  OffPolicyMaskOptions off_policy_mask;
  DroOptions dro;
  SapoOptions sapo;
  VespoOptions vespo;
  CovarianceOptions covariance;

  void Visit(ConfigVisitor& v) {
    v.Field("name", &name,
            {.doc = "A loss (grpo, dapo, gspo-token, cispo, ...) or another implementation's "
                    "preset (trl.dapo, verl.gspo, fireworks.grpo, ...)."});
    v.Field(
        "clip_low", &clip_low,
        {.doc = "Ratio below 1 - clip_low is clipped when the advantage is negative.", .min = 0});
    v.Field(
        "clip_high", &clip_high,
        {.doc = "Ratio above 1 + clip_high is clipped when the advantage is positive.", .min = 0});
    v.Field(
        "dual_clip", &dual_clip,
        {.doc = "c > 1: for a negative advantage A the loss is at most -c A; 0: off.", .min = 0});
    v.Field("delta", &delta, {.doc = "Largest ratio of the unclipped branch; 0: off.", .min = 0});
    v.Field("log_ratio_cap", &log_ratio_cap,
            {.doc = "Largest |log ratio|, no gradient beyond; 0: off.", .unit = "nats", .min = 0});
    v.Field("log_ratio_cap_max", &log_ratio_cap_max,
            {.doc = "Largest log ratio, above only; 0: off.", .unit = "nats", .min = 0});
    v.Field("aggregation", &aggregation,
            {.doc = "How token losses become one number.",
             .choices = {"token-sum", "token-mean", "seq-mean-token-mean", "seq-mean-token-sum",
                         "seq-mean-token-sum-norm"}});
    v.Field("agg_norm", &agg_norm,
            {.doc = "The constant of seq-mean-token-sum-norm.", .unit = "tokens", .above = 0});
    v.Field("kl_coef", &kl_coef,
            {.doc = "Coefficient of KL(policy || reference); 0: no reference model.", .min = 0});
    v.Field("kl_estimator", &kl_estimator,
            {.doc = "Estimator of that KL; k1+ and k3+ take the gradient of k2. In rewards and "
                    "advantages k1 unless it is set.",
             .choices = {"k1", "k2", "k3", "abs", "low-var", "k1+", "k3+"}});
    v.Field(
        "kl_target", &kl_target,
        {.doc = "Where it enters: the loss, or, in a run, the rewards before advantages, or the "
                "advantages.",
         .choices = {"loss", "reward", "advantage"}});
    v.Field("kl_times_ratio", &kl_times_ratio,
            {.doc = "Multiply the KL term by the importance ratio (bias-corrected gradient)."});
    v.Field("kl_detached", &kl_detached,
            {.doc = "Only report the KL in the loss; it has no gradient."});
    v.Field("ratio_level", &ratio_level,
            {.doc = "What the importance ratio is taken over.",
             .choices = {"token", "sequence", "sequence-token"}});
    v.Field("ratio_anchor", &ratio_anchor,
            {.doc = "The policy it is against: before the step, or the sampler's.",
             .choices = {"old", "sampling"}});
    v.Field("row_mean_over_masked", &row_mean_over_masked,
            {.doc = "A row ratio averages the row's masked tokens too."});
    v.Field("row_denominator", &row_denominator,
            {.doc = "The rows that a mean over rows counts.", .choices = {"active", "all"}});
    v.Field("top_entropy", &top_entropy,
            {.doc = "Policy term only on this part of the tokens, the most uncertain; 0: off.",
             .min = 0,
             .max = 1});
    v.Field("entropy_coef", &entropy_coef, {.doc = "Coefficient of the entropy bonus."});
    v.Field(
        "sft_coef", &sft_coef,
        {.doc = "Coefficient of cross-entropy on tokens of positive advantage, or by sft_weights.",
         .min = 0});
    v.Field("term_gradients", &term_gradients,
            {.doc = "Report the squared gradient of each term (slower)."});
    v.Nested("correction", correction, "Weight for the train / inference mismatch.");
    v.Nested("off_policy_mask", off_policy_mask, "Leave out rows that have moved away.");
    v.Nested("dro", dro, "Knobs of dro.");
    v.Nested("sapo", sapo, "Knobs of sapo.");
    v.Nested("vespo", vespo, "Knobs of vespo.");
    v.Nested("covariance", covariance, "Knobs of clip-cov and kl-cov.");
  }

  // `defaults` with every set knob replaced. REQUIRES: texts are among their choices (the reader
  // has checked them). correction: level "none" removes it; any other knob set there creates it
  // where the loss has none. 0 switches an optional knob off. A kl_target other than loss makes k1 the
  // estimator where none is set.
  LossConfig ApplyTo(LossConfig defaults) const;
  // Names of the knobs that are set: "clip_high", "correction.cap".
  std::vector<std::string> SetKnobs() const;
};

}  // namespace rft
