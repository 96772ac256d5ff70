#include "rft/config/loss_options.h"

#include <cmath>

#include <gtest/gtest.h>

namespace rft {
namespace {

LossConfig Defaults() {
  LossConfig config;
  config.name = "other";
  config.clip_high = 0.28;
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
  return config;
}

TEST(LossOptionsTest, LeavesTheLosssOwnDefaultsWhereNothingIsSet) {
  const LossConfig config = LossOptions{.name = "trl.dapo"}.ApplyTo(Defaults());
  EXPECT_EQ(config.name, "other");  // the loss behind the preset, not the preset
  EXPECT_EQ(config.clip_high, 0.28);
  EXPECT_EQ(config.log_ratio_cap, 20.0);
  EXPECT_EQ(config.aggregation, Aggregation::kTokenMean);
  EXPECT_FALSE(config.correction.has_value());
}

TEST(LossOptionsTest, ReplacesEveryKnobThatIsSet) {
  LossOptions options;
  options.clip_low = 0.1;
  options.clip_high = 0.2;
  options.dual_clip = 3.0;
  options.delta = 4.0;
  options.log_ratio_cap = 5.0;
  options.log_ratio_cap_max = 6.0;
  options.aggregation = "seq-mean-token-sum-norm";
  options.agg_norm = 7.0;
  options.kl_coef = 0.5;
  options.kl_estimator = "k2";
  options.kl_target = "advantage";
  options.kl_times_ratio = true;
  options.kl_detached = true;
  options.ratio_level = "sequence-token";
  options.ratio_anchor = "sampling";
  options.row_mean_over_masked = true;
  options.row_denominator = "all";
  options.top_entropy = 0.2;
  options.entropy_coef = 0.01;
  options.sft_coef = 0.1;
  options.term_gradients = true;
  options.off_policy_mask.against = "old";
  options.dro.beta = 0.5;
  options.sapo.tau_negative = 2.0;
  options.vespo.k_negative = 4.0;
  options.covariance.fraction = 0.5;
  const LossConfig config = options.ApplyTo(Defaults());
  EXPECT_EQ(config.clip_low, 0.1);
  EXPECT_EQ(config.clip_high, 0.2);
  EXPECT_EQ(config.dual_clip, 3.0);
  EXPECT_EQ(config.delta, 4.0);
  EXPECT_EQ(config.log_ratio_cap, 5.0);
  EXPECT_EQ(config.log_ratio_cap_max, 6.0);
  EXPECT_EQ(config.aggregation, Aggregation::kSeqMeanTokenSumNorm);
  EXPECT_EQ(config.agg_norm, 7.0);
  EXPECT_EQ(config.kl_coef, 0.5);
  EXPECT_EQ(config.kl_estimator, KlEstimator::kK2);
  EXPECT_EQ(config.kl_target, KlTarget::kAdvantage);
  EXPECT_TRUE(config.kl_times_ratio);
  EXPECT_TRUE(config.kl_detached);
  EXPECT_EQ(config.ratio_level, RatioLevel::kSequenceToken);
  EXPECT_EQ(config.ratio_anchor, RatioAnchor::kSampling);
  EXPECT_TRUE(config.row_mean_over_masked);
  EXPECT_EQ(config.row_denominator, RowDenominator::kAll);
  EXPECT_EQ(config.top_entropy, 0.2);
  EXPECT_EQ(config.entropy_coef, 0.01);
  EXPECT_EQ(config.sft_coef, 0.1);
  EXPECT_TRUE(config.term_gradients);
  EXPECT_EQ(config.off_policy_mask->against, OffPolicyMask::Against::kOld);
  EXPECT_EQ(config.off_policy_mask->delta, OffPolicyMask{}.delta);
  EXPECT_EQ(config.dro.beta, 0.5);
  EXPECT_EQ(config.sapo.tau_negative, 2.0);
  EXPECT_EQ(config.vespo.k_negative, 4.0);
  EXPECT_EQ(config.covariance.fraction, 0.5);
}

TEST(LossOptionsTest, TheEstimatorOutsideOfTheLossIsK1UnlessItIsSet) {
  EXPECT_EQ(LossOptions{.kl_target = "loss"}.ApplyTo(Defaults()).kl_estimator, KlEstimator::kK3);
  for (const char* target : {"reward", "advantage"}) {
    LossOptions options{.kl_target = target};
    EXPECT_EQ(options.ApplyTo(Defaults()).kl_estimator, KlEstimator::kK1);
    options.kl_estimator = "k3";
    EXPECT_EQ(options.ApplyTo(Defaults()).kl_estimator, KlEstimator::kK3);
  }
}

TEST(LossOptionsTest, ZeroSwitchesAnOptionalKnobOff) {
  LossConfig defaults = Defaults();
  defaults.dual_clip = 3.0;
  defaults.correction = ImportanceCorrection{.icepop = 3.0};
  defaults.off_policy_mask = OffPolicyMask{};
  LossOptions options;
  options.log_ratio_cap = 0.0;
  options.dual_clip = 0.0;
  options.correction.icepop = 0.0;
  options.correction.log_cap = 0.0;
  options.off_policy_mask.delta = 0.0;
  const LossConfig config = options.ApplyTo(defaults);
  EXPECT_FALSE(config.log_ratio_cap.has_value());
  EXPECT_FALSE(config.dual_clip.has_value());
  EXPECT_FALSE(config.correction->icepop.has_value());
  EXPECT_TRUE(std::isinf(config.correction->log_cap));
  EXPECT_FALSE(config.off_policy_mask.has_value());
}

TEST(LossOptionsTest, AnySetKnobOfTheCorrectionCreatesIt) {
  LossOptions options;
  options.correction.floor = 0.5;
  options.correction.mode = "mask";
  const LossConfig config = options.ApplyTo(Defaults());
  ASSERT_TRUE(config.correction.has_value());
  EXPECT_EQ(config.correction->floor, 0.5);
  EXPECT_EQ(config.correction->mode, ImportanceCorrection::Mode::kMask);
  EXPECT_EQ(config.correction->level, ImportanceCorrection::Level::kToken);
  EXPECT_EQ(config.correction->cap, ImportanceCorrection{}.cap);
}

TEST(LossOptionsTest, LevelNoneRemovesTheCorrection) {
  LossConfig defaults = Defaults();
  defaults.correction = ImportanceCorrection{};
  LossOptions options;
  EXPECT_TRUE(options.ApplyTo(defaults).correction.has_value());
  options.correction.level = "none";
  EXPECT_FALSE(options.ApplyTo(defaults).correction.has_value());
}

TEST(LossOptionsTest, KeepsTheOtherKnobsOfADefaultCorrection) {
  LossConfig defaults = Defaults();
  defaults.correction = ImportanceCorrection{.cap = 2.0, .icepop = 3.0};
  LossOptions options;
  options.correction.level = "sequence-product";
  const LossConfig config = options.ApplyTo(defaults);
  EXPECT_EQ(config.correction->level, ImportanceCorrection::Level::kSequenceProduct);
  EXPECT_EQ(config.correction->cap, 2.0);
  EXPECT_EQ(config.correction->icepop, 3.0);
}

}  // namespace
}  // namespace rft
