// The knobs one at a time, on numbers small enough to check by hand.
#include <cmath>
#include <functional>
#include <optional>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/losses/loss_rows.h"

namespace rft::testing {
namespace {

// One row of one token with the given ratio.
LossRow OneToken(double ratio, double advantage) {
  LossRow row;
  row.old_logp = {-1.0};
  row.logp = {-1.0 + std::log(ratio)};
  row.mask = {1.0};
  row.advantage = {advantage};
  return row;
}

LossConfig Bare(const char* loss = "grpo") {
  LossConfig config = FindLoss(loss).DefaultConfig();
  config.correction.reset();
  config.log_ratio_cap.reset();
  config.log_ratio_cap_max.reset();
  return config;
}

struct Outcome {
  double loss, gradient;
};

Outcome RunOne(const LossRow& row, const LossConfig& config) {
  const LossResult result = RunLoss({row}, config);
  return {result.loss, result.gradient[0][0]};
}

void ExpectOutcome(Outcome actual, double loss, double gradient) {
  EXPECT_NEAR(actual.loss, loss, 1e-12);
  EXPECT_NEAR(actual.gradient, gradient, 1e-12);
}

TEST(PolicyLossTest, ClipsAboveUpperBoundWhenAdvantageIsPositive) {
  ExpectOutcome(RunOne(OneToken(1.5, 2.0), Bare()), -1.2 * 2.0, 0.0);
}

TEST(PolicyLossTest, ClipsBelowLowerBoundWhenAdvantageIsNegative) {
  ExpectOutcome(RunOne(OneToken(0.5, -2.0), Bare()), 0.8 * 2.0, 0.0);
}

TEST(PolicyLossTest, KeepsTheGradientOnThePessimisticSide) {
  ExpectOutcome(RunOne(OneToken(0.5, 2.0), Bare()), -1.0, -1.0);
  ExpectOutcome(RunOne(OneToken(1.5, -2.0), Bare()), 3.0, 3.0);
}

TEST(PolicyLossTest, DapoClipsAtItsHigherBound) {
  ExpectOutcome(RunOne(OneToken(1.25, 2.0), Bare("dapo")), -2.5, -2.5);
  ExpectOutcome(RunOne(OneToken(1.3, 2.0), Bare("dapo")), -2.56, 0.0);
}

TEST(PolicyLossTest, OnPolicyHasTheWholeReinforceGradient) {
  for (const char* loss : {"grpo", "dapo", "gspo-token"})
    ExpectOutcome(RunOne(OneToken(1.0, 2.0), Bare(loss)), -2.0, -2.0);
}

TEST(PolicyLossTest, PassesTheGradientAtTheClipBoundItself) {
  LossConfig config = Bare();
  config.clip_high = 0.0;  // the bound is exp(0), which is exact
  config.clip_low = 0.0;
  ExpectOutcome(RunOne(OneToken(1.0, 2.0), config), -2.0, -2.0);
  ExpectOutcome(RunOne(OneToken(1.0, -2.0), config), 2.0, 2.0);
}

TEST(PolicyLossTest, DualClipBoundsTheLossOfANegativeAdvantage) {
  LossConfig config = Bare();
  config.dual_clip = 3.0;
  ExpectOutcome(RunOne(OneToken(4.0, -2.0), config), 6.0, 0.0);
  ExpectOutcome(RunOne(OneToken(2.0, -2.0), config), 4.0, 4.0);
}

TEST(PolicyLossTest, DeltaBoundsTheUnclippedBranch) {
  LossConfig config = Bare();
  config.delta = 4.0;
  ExpectOutcome(RunOne(OneToken(5.0, -2.0), config), 8.0, 0.0);
  ExpectOutcome(RunOne(OneToken(3.0, -2.0), config), 6.0, 6.0);
}

TEST(PolicyLossTest, DeltaInsideTheClipRangeLeavesTheOtherBranchItsGradient) {
  LossConfig config = Bare();
  config.delta = 1.1;
  ExpectOutcome(RunOne(OneToken(1.15, -2.0), config), 2.3, 2.3);
  ExpectOutcome(RunOne(OneToken(1.15, 2.0), config), -2.2, 0.0);
}

TEST(PolicyLossTest, LogRatioCapStopsTheGradientOnBothSides) {
  LossConfig config = Bare();
  config.log_ratio_cap = std::log(2.0);
  ExpectOutcome(RunOne(OneToken(3.0, -2.0), config), 4.0, 0.0);
  ExpectOutcome(RunOne(OneToken(0.25, 2.0), config), -1.0, 0.0);
}

TEST(PolicyLossTest, LogRatioCapMaxStopsTheGradientAboveOnly) {
  LossConfig config = Bare();
  config.log_ratio_cap_max = std::log(2.0);
  ExpectOutcome(RunOne(OneToken(3.0, -2.0), config), 4.0, 0.0);
  ExpectOutcome(RunOne(OneToken(0.25, 2.0), config), -0.5, -0.5);
}

TEST(PolicyLossTest, AnOverflowingRatioInAnUnusedBranchLeavesNoNan) {
  LossRow row = OneToken(1.0, 2.0);
  row.logp = {2000.0};
  ExpectOutcome(RunOne(row, Bare()), -2.4, 0.0);
  row.advantage = {0.0};
  ExpectOutcome(RunOne(row, Bare()), 0.0, 0.0);
}

TEST(PolicyLossTest, AddsTheReferenceKlOfEachEstimator) {
  constexpr double kE = 2.718281828459045, kRootE = 1.6487212707001282;
  const struct {
    KlEstimator estimator;
    double d, value, gradient;  // d = ref - lp; gradient by lp
  } kCases[] = {
      {KlEstimator::kK1, -0.5, 0.5, 1.0},
      {KlEstimator::kK1, 1.0, -1.0, 1.0},
      {KlEstimator::kK2, -0.5, 0.125, 0.5},
      {KlEstimator::kK2, 1.0, 0.5, -1.0},
      {KlEstimator::kK3, -0.5, 1.0 / kRootE - 0.5, 1.0 - 1.0 / kRootE},
      {KlEstimator::kK3, 1.0, kE - 2.0, 1.0 - kE},
      {KlEstimator::kAbs, -0.5, 0.5, 1.0},
      {KlEstimator::kAbs, 1.0, 1.0, -1.0},
      {KlEstimator::kLowVar, -0.5, 1.0 / kRootE - 0.5, 1.0 - 1.0 / kRootE},
      {KlEstimator::kLowVar, 1.0, kE - 2.0, 1.0 - kE},
      {KlEstimator::kLowVar, 3.0, 10.0, 0.0},     // e^3 - 4 = 16.1: the result is clamped
      {KlEstimator::kLowVar, 1000.0, 10.0, 0.0},  // e^1000 would be infinite: so is d
      {KlEstimator::kLowVar, -1000.0, 10.0, 0.0},
      {KlEstimator::kK1Plus, -0.5, 0.5, 0.5},  // value of k1, gradient of k2
      {KlEstimator::kK1Plus, 1.0, -1.0, -1.0},
      {KlEstimator::kK3Plus, -0.5, 1.0 / kRootE - 0.5, 0.5},  // value of k3, gradient of k2
      {KlEstimator::kK3Plus, 1.0, kE - 2.0, -1.0},
      {KlEstimator::kK3Plus, -1000.0, 999.0, 1000.0},  // not clamped
  };
  for (const auto& [estimator, d, value, gradient] : kCases) {
    SCOPED_TRACE(::testing::Message() << "estimator " << static_cast<int>(estimator) << " d " << d);
    LossRow row = OneToken(1.0, 0.0);
    row.ref_logp = {-1.0 + d};
    LossConfig config = Bare();
    config.kl_coef = 0.1;
    config.kl_estimator = estimator;
    ExpectOutcome(RunOne(row, config), 0.1 * value, 0.1 * gradient);
    row.held_logp = row.logp;  // the general path, where the fused one has this estimator too
    ExpectOutcome(RunOne(row, config), 0.1 * value, 0.1 * gradient);
  }
}

// Two tokens on policy; log-probabilities -1 and -0.5, advantages 2 and -1.
LossResult RunWithSft(std::vector<double> sft_weights) {
  LossRow row;
  row.logp = row.old_logp = {-1.0, -0.5};
  row.mask = {1.0, 1.0};
  row.advantage = {2.0, -1.0};
  row.sft_weight = std::move(sft_weights);
  LossConfig config = Bare();
  config.aggregation = Aggregation::kTokenSum;
  config.sft_coef = 0.1;
  return RunLoss({row}, config);
}

TEST(PolicyLossTest, MixesInCrossEntropyOfPositiveAdvantages) {
  const LossResult result = RunWithSft({});
  EXPECT_NEAR(result.loss, (-2.0 + 1.0) + 0.1 * (1.0 * 1.0), 1e-12);
  EXPECT_NEAR(result.gradient[0][0], -2.0 - 0.1, 1e-12);
  EXPECT_NEAR(result.gradient[0][1], 1.0, 1e-12);
}

TEST(PolicyLossTest, MixesInCrossEntropyByItsWeights) {
  const LossResult result = RunWithSft({0.5, 2.0});
  EXPECT_NEAR(result.loss, (-2.0 + 1.0) + 0.1 * (0.5 * 1.0 + 2.0 * 0.5), 1e-12);
  EXPECT_NEAR(result.gradient[0][0], -2.0 - 0.1 * 0.5, 1e-12);
  EXPECT_NEAR(result.gradient[0][1], 1.0 - 0.1 * 2.0, 1e-12);
}

TEST(PolicyLossTest, TruncatesTheCorrectionToFloorAndCap) {
  LossConfig config = Bare();
  config.correction = ImportanceCorrection{};
  config.correction->cap = 2.0;
  config.correction->floor = 0.5;
  LossRow row = OneToken(1.0, 1.0);
  row.sampling_logp = {-1.0 - std::log(4.0)};  // raw weight 4
  ExpectOutcome(RunOne(row, config), -2.0, -2.0);
  row.sampling_logp = {-1.0 + std::log(4.0)};  // raw weight 1/4
  ExpectOutcome(RunOne(row, config), -0.5, -0.5);
}

TEST(PolicyLossTest, IcePopJudgesTheRawWeight) {
  LossConfig config = Bare();
  config.correction = ImportanceCorrection{};
  config.correction->cap = 2.0;
  config.correction->icepop = 3.0;
  LossRow row = OneToken(1.0, 1.0);
  row.sampling_logp = {-1.0 - std::log(4.0)};  // raw weight 4: outside, though truncated to 2
  ExpectOutcome(RunOne(row, config), 0.0, 0.0);
  row.sampling_logp = {-1.0 - std::log(2.5)};  // raw weight 2.5: inside, truncated to 2
  ExpectOutcome(RunOne(row, config), -2.0, -2.0);
}

// The row's two tokens have old - sampling of 3 and -1.
double RowWeight(ImportanceCorrection::Level level, double log_cap) {
  LossConfig config = Bare();
  config.correction = ImportanceCorrection{};
  config.correction->level = level;
  config.correction->cap = 1e9;
  config.correction->log_cap = log_cap;
  LossRow row;
  row.logp = row.old_logp = {-1.0, -1.0};
  row.sampling_logp = {-4.0, 0.0};
  row.mask = row.advantage = {1.0, 1.0};
  return -RunLoss({row}, config).loss;
}

TEST(PolicyLossTest, TheGeometricRowWeightClampsEachToken) {
  const auto level = ImportanceCorrection::Level::kSequenceGeometric;
  EXPECT_NEAR(RowWeight(level, 20.0), std::exp((3.0 - 1.0) / 2), 1e-12);
  EXPECT_NEAR(RowWeight(level, 2.0), std::exp((2.0 - 1.0) / 2), 1e-12);
}

TEST(PolicyLossTest, TheProductRowWeightClampsTheSum) {
  const auto level = ImportanceCorrection::Level::kSequenceProduct;
  EXPECT_NEAR(RowWeight(level, 2.5), std::exp(3.0 - 1.0), 1e-12);
  EXPECT_NEAR(RowWeight(level, 1.5), std::exp(1.5), 1e-12);
}

TEST(PolicyLossTest, ClampsTheMismatchLogRatioBeforeExp) {
  LossConfig config = Bare();
  config.correction = ImportanceCorrection{};
  config.correction->log_cap = std::log(1.5);
  LossRow row = OneToken(1.0, 1.0);
  row.sampling_logp = {-2.0};
  ExpectOutcome(RunOne(row, config), -1.5, -1.5);
}

TEST(PolicyLossTest, WithoutSamplingLogProbabilitiesTheCorrectionIsOne) {
  LossConfig config = Bare();
  config.correction = ImportanceCorrection{};
  const LossResult result = RunLoss({OneToken(1.0, 1.0)}, config);
  EXPECT_EQ(result.output.metric_sums.at("tis_mean"), 1.0);
  EXPECT_EQ(result.output.metric_maxima.at("mismatch_abs_max"), 0.0);
}

TEST(PolicyLossTest, ReportsTheMismatchBetweenSamplerAndTrainer) {
  LossRow row = OneToken(1.0, 1.0);
  row.sampling_logp = {-0.75};  // old - sampling = -0.25
  const LossOutput output = RunLoss({row}, Bare()).output;
  EXPECT_DOUBLE_EQ(output.metric_sums.at("mismatch_k1"), 0.25);
  EXPECT_DOUBLE_EQ(output.metric_sums.at("mismatch_abs_mean"), 0.25);
  EXPECT_NEAR(output.metric_sums.at("mismatch_k3"), std::exp(-0.25) - 0.75, 1e-15);
}

TEST(PolicyLossTest, NeedsAReferenceOnlyWhenTheCoefficientIsNotZero) {
  LossConfig config = Bare();
  EXPECT_NO_THROW(RunOne(OneToken(1.0, 1.0), config));
  config.kl_coef = 0.1;
  EXPECT_THROW(RunOne(OneToken(1.0, 1.0), config), c10::Error);
}

TEST(PolicyLossTest, NamesTheKnobThatIsOutOfRange) {
  const std::pair<const char*, std::function<void(LossConfig*)>> kCases[] = {
      {"losses.clip_low", [](LossConfig* c) { c->clip_low = -0.1; }},
      {"losses.clip_high", [](LossConfig* c) { c->clip_high = std::nan(""); }},
      {"losses.dual_clip", [](LossConfig* c) { c->dual_clip = 1.0; }},
      {"losses.delta", [](LossConfig* c) { c->delta = 0.0; }},
      {"losses.log_ratio_cap", [](LossConfig* c) { c->log_ratio_cap = 0.0; }},
      {"losses.log_ratio_cap_max", [](LossConfig* c) { c->log_ratio_cap_max = -1.0; }},
      {"losses.agg_norm", [](LossConfig* c) { c->agg_norm = 0.0; }},
      {"losses.kl_coef", [](LossConfig* c) { c->kl_coef = -1.0; }},
      {"losses.kl_times_ratio",
       [](LossConfig* c) { c->kl_target = KlTarget::kReward, c->kl_times_ratio = true; }},
      {"losses.kl_detached",
       [](LossConfig* c) { c->kl_target = KlTarget::kAdvantage, c->kl_detached = true; }},
      {"losses.kl_estimator",
       [](LossConfig* c) {
         c->kl_target = KlTarget::kReward, c->kl_estimator = KlEstimator::kK1Plus;
       }},
      {"losses.kl_estimator",
       [](LossConfig* c) {
         c->kl_target = KlTarget::kAdvantage, c->kl_estimator = KlEstimator::kK3Plus;
       }},
      {"losses.kl_target",  // fine in a run, but a loss cannot do it
       [](LossConfig* c) { c->kl_target = KlTarget::kReward, c->kl_coef = 0.1; }},
      {"losses.correction.cap", [](LossConfig* c) { c->correction.emplace().cap = 0.0; }},
      {"losses.correction.floor", [](LossConfig* c) { c->correction.emplace().floor = 6.0; }},
      {"losses.correction.log_cap", [](LossConfig* c) { c->correction.emplace().log_cap = 0.0; }},
      {"losses.correction.icepop", [](LossConfig* c) { c->correction.emplace().icepop = 0.5; }},
  };
  for (const auto& [knob, change] : kCases) {
    LossConfig config = Bare();
    change(&config);
    try {
      RunOne(OneToken(1.0, 1.0), config);
      ADD_FAILURE() << knob << " was accepted";
    } catch (const c10::Error& error) {
      EXPECT_EQ(std::string(error.what_without_backtrace()).rfind(std::string(knob) + ":", 0), 0u)
          << error.what_without_backtrace();
    }
  }
}

}  // namespace
}  // namespace rft::testing
