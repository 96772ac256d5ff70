// The knobs of a policy loss, one field each. Which of them a loss reads, and its defaults, are the loss's own
// (losses/*.cc, `DefaultConfig`). Formulas: docs/losses.md. std only, so that torch-free code can carry it.
#pragma once

#include <optional>
#include <string>

namespace rft {

enum class Aggregation {
  kTokenSum,   // sum m L                                   denominator 1
  kTokenMean,  // sum m L / N                               N = active tokens of the whole step
  kSeqMeanTokenMean,     // (1/B) sum_i (1/|y_i|) sum m L             B = rows with an active token
  kSeqMeanTokenSum,      // (1/B) sum_i sum m L
  kSeqMeanTokenSumNorm,  // (1/B)(1/L) sum m L                        L = agg_norm, a constant
};

enum class RowDenominator { kActive, kAll };  // B counts rows with an active token, or every row

// What the importance ratio is taken over; the formulas are in losses/ratio.h.
enum class RatioLevel { kToken, kSequence, kSequenceToken };
// The policy that the ratio is against: the trainer's before the step, or the sampler's.
enum class RatioAnchor { kOld, kSampling };

// k1+ and k3+ have the value of k1 and k3 and the gradient of k2 (straight-through).
enum class KlEstimator { kK1, kK2, kK3, kAbs, kLowVar, kK1Plus, kK3Plus };
// Where the reference KL enters: the loss, or, in a run, the rewards before advantages, or the advantages.
enum class KlTarget { kLoss, kReward, kAdvantage };

// Weight on the policy term for the train / inference mismatch: w = exp(old - sampling).
struct ImportanceCorrection {
  enum class Level { kToken, kSequenceGeometric, kSequenceProduct };
  enum class Mode { kTruncate, kMask };
  Level level = Level::kToken;
  Mode mode = Mode::kTruncate;
  double cap = 5.0;              // upper bound
  std::optional<double> floor;   // lower bound
  double log_cap = 20.0;         // |log ratio| is clamped to this before exp
  std::optional<double> icepop;  // zero outside [1/icepop, icepop]
};

// Drops rows of negative advantage that have moved away: mean(behaviour - policy) > delta.
struct OffPolicyMask {
  enum class Against { kSampling, kOld };
  double delta = 0.05;  // nats per token
  Against against = Against::kSampling;
};

// What one loss alone reads. Formulas: the loss's own file.
struct DroKnobs {
  double beta = 0.05;                // weight of the quadratic penalty
  bool gate_zero_advantage = false;  // no penalty where the advantage is 0
};
struct SapoKnobs {
  double tau_positive = 1.0;  // temperature of the gate for A > 0
  double tau_negative = 1.05;
};
struct VespoKnobs {
  double k_positive = 2.0, lambda_positive = 3.0;  // A >= 0
  double k_negative = 3.0, lambda_negative = 2.0;
};
struct CovarianceKnobs {   // clip-cov and kl-cov
  double fraction = 2e-4;  // of the active tokens; at least one
  double low = 1.0;        // clip-cov: only tokens with a covariance inside (low, high)
  double high = 5.0;
  double kl_coef = 1.0;  // kl-cov: weight of |log ratio| on the chosen tokens
};

struct LossConfig {
  std::string name = "grpo";
  double clip_low = 0.2;   // ratio below 1 - clip_low is clipped when the advantage is negative
  double clip_high = 0.2;  // ratio above 1 + clip_high is clipped when the advantage is positive
  std::optional<double> dual_clip;  // c > 1: for A < 0 the loss is at most -c A
  std::optional<double> delta;      // two-sided: ratio of the unclipped branch at most delta
  RatioLevel ratio_level = RatioLevel::kToken;
  RatioAnchor ratio_anchor = RatioAnchor::kOld;
  bool row_mean_over_masked = false;        // a row ratio averages the row's masked tokens too
  std::optional<double> log_ratio_cap;      // |log ratio| at most this (gradient 0 beyond)
  std::optional<double> log_ratio_cap_max;  // log ratio at most this, above only (gspo)
  Aggregation aggregation = Aggregation::kSeqMeanTokenMean;
  double agg_norm = 1.0;  // L of kSeqMeanTokenSumNorm
  RowDenominator row_denominator = RowDenominator::kActive;
  double kl_coef = 0.0;  // coefficient of KL(policy || reference); 0 = no reference needed
  KlEstimator kl_estimator = KlEstimator::kK3;
  KlTarget kl_target = KlTarget::kLoss;
  bool kl_times_ratio = false;  // "bias-corrected": the KL term is multiplied by the ratio
  bool kl_detached = false;     // reported in the loss, without gradient
  std::optional<ImportanceCorrection> correction;  // nullopt: none
  std::optional<OffPolicyMask> off_policy_mask;    // nullopt: none
  std::optional<double>
      top_entropy;            // policy term only on this fraction of the tokens, the most uncertain
  double entropy_coef = 0.0;  // bonus: minus entropy_coef * entropy
  double sft_coef =
      0.0;  // plus sft_coef * cross-entropy (losses/policy_loss.h says of which tokens)
  bool term_gradients = false;  // report the squared gradient of each term (costs a backward each)
  DroKnobs dro;
  SapoKnobs sapo;
  VespoKnobs vespo;
  CovarianceKnobs covariance;
};

}  // namespace rft
