#include "rft/config/loss_options.h"

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
  const LossConfig config = LossOptions{.name = "dapo"}.ApplyTo(Defaults());
  EXPECT_EQ(config.name, "dapo");
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
