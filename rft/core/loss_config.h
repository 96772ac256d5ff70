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

enum class KlEstimator { kK1, kK2, kK3 };

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

struct LossConfig {
  std::string name = "grpo";
  double clip_low = 0.2;   // ratio below 1 - clip_low is clipped when the advantage is negative
  double clip_high = 0.2;  // ratio above 1 + clip_high is clipped when the advantage is positive
  std::optional<double> dual_clip;      // c > 1: for A < 0 the loss is at most -c A
  std::optional<double> delta;          // two-sided: ratio of the unclipped branch at most delta
  std::optional<double> log_ratio_cap;  // |log ratio| at most this (gradient 0 beyond)
  std::optional<double> log_ratio_cap_max;  // log ratio at most this, above only (gspo)
  Aggregation aggregation = Aggregation::kSeqMeanTokenMean;
  double agg_norm = 1.0;  // L of kSeqMeanTokenSumNorm
  double kl_coef =
      0.0;  // coefficient of KL(policy || reference) in the loss; 0 = no reference needed
  KlEstimator kl_estimator = KlEstimator::kK3;
  std::optional<ImportanceCorrection> correction;  // nullopt: none
};

}  // namespace rft
