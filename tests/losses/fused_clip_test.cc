// The fused pass against the general path, knob by knob, and its bits under several threads.
#include "losses/fused_clip.h"

#include <cmath>
#include <functional>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "losses/presets.h"
#include "tests/losses/loss_rows.h"
#include "tests/testing/loss_golden.h"

namespace rft::testing {
namespace {

using Level = ImportanceCorrection::Level;
using Mode = ImportanceCorrection::Mode;

// Held log-probabilities equal to the current ones change nothing and force the general path.
std::vector<LossRow> Unfused(std::vector<LossRow> rows) {
  for (LossRow& row : rows) row.held_logp = row.logp;
  return rows;
}

std::vector<LossRow> Rows(uint64_t seed) {
  std::vector<LossRow> rows = RandomRows(seed, 40);
  for (LossRow& row : rows) row.entropy.clear();
  rows[3].logp[0] += 30.0;  // beyond every cap
  rows[5].old_logp[0] += 30.0;
  rows[7].advantage.assign(rows[7].advantage.size(), 0.0);
  return rows;
}

void ExpectSameAsGeneralPath(const std::vector<LossRow>& rows, const LossConfig& config,
                             at::ScalarType dtype, double tolerance) {
  ASSERT_TRUE(CanFuseClip(PackRows(rows, dtype), config));
  const LossResult fused = RunLoss(rows, config, dtype);
  const LossResult general = RunLoss(Unfused(rows), config, dtype);
  EXPECT_LE(RelativeDifference(fused.loss, general.loss), tolerance);
  EXPECT_LE(GradientDifference(fused.gradient, general.gradient), tolerance);
  EXPECT_EQ(fused.output.denominator, general.output.denominator);
  EXPECT_EQ(fused.output.num_masked, general.output.num_masked);
  for (const auto& [a, b] : {std::pair(fused.output.metric_sums, general.output.metric_sums),
                             std::pair(fused.output.metric_maxima, general.output.metric_maxima),
                             std::pair(fused.output.metric_minima, general.output.metric_minima)}) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, value] : b)
      EXPECT_LE(RelativeDifference(a.at(name), value), 10 * tolerance) << name;  // sums may cancel
  }
}

TEST(FusedClipTest, EqualsTheGeneralPathUnderEveryKnob) {
  const std::function<void(LossConfig*)> kChanges[] = {
      [](LossConfig*) {},
      [](LossConfig* c) { c->aggregation = Aggregation::kTokenSum; },
      [](LossConfig* c) { c->aggregation = Aggregation::kSeqMeanTokenMean; },
      [](LossConfig* c) { c->aggregation = Aggregation::kSeqMeanTokenSumNorm, c->agg_norm = 7.0; },
      [](LossConfig* c) { c->row_denominator = RowDenominator::kAll; },
      [](LossConfig* c) { c->dual_clip = 1.5; },
      [](LossConfig* c) { c->delta = 1.1; },
      [](LossConfig* c) { c->ratio_anchor = RatioAnchor::kSampling; },
      [](LossConfig* c) { c->log_ratio_cap = 0.3; },
      [](LossConfig* c) { c->log_ratio_cap_max = 0.2; },
      [](LossConfig* c) { c->kl_coef = 0.1, c->kl_estimator = KlEstimator::kK1; },
      [](LossConfig* c) { c->kl_coef = 0.1, c->kl_estimator = KlEstimator::kK2; },
      [](LossConfig* c) { c->kl_coef = 0.1; },
      [](LossConfig* c) { c->kl_coef = 0.1, c->kl_times_ratio = true; },
      [](LossConfig* c) {
        c->kl_coef = 0.1, c->kl_times_ratio = true, c->kl_estimator = KlEstimator::kK1;
        c->log_ratio_cap = 0.3;
      },
      [](LossConfig* c) {
        c->kl_coef = 0.1, c->kl_times_ratio = true, c->kl_estimator = KlEstimator::kK2;
        c->ratio_anchor = RatioAnchor::kSampling, c->delta = 1.1;
      },
      [](LossConfig* c) { c->correction.reset(); },
      [](LossConfig* c) { c->correction.emplace().level = Level::kSequenceGeometric; },
      [](LossConfig* c) { c->correction.emplace().level = Level::kSequenceProduct; },
      [](LossConfig* c) {
        c->correction = {Level::kToken, Mode::kMask, 1.5, 0.7};
      },
      [](LossConfig* c) { c->correction.emplace().icepop = 1.3; },
      [](LossConfig* c) { c->correction.emplace().log_cap = 0.4; },
  };
  for (const char* loss :
       {"grpo", "dapo", "gspo-token", "ppo", "importance-sampling", "trl.grpo_kl"}) {
    int index = 0;
    for (const auto& change : kChanges) {
      SCOPED_TRACE(std::string(loss) + " change " + std::to_string(index++));
      LossConfig config = LossDefaults(loss);
      change(&config);
      ExpectSameAsGeneralPath(Rows(index), config, at::kDouble, 1e-12);
      ExpectSameAsGeneralPath(Rows(index), config, at::kFloat, 1e-6);
    }
  }
}

TEST(FusedClipTest, WorksWithoutSamplerAndReference) {
  std::vector<LossRow> rows = Rows(1);
  for (LossRow& row : rows) row.sampling_logp.clear(), row.ref_logp.clear();
  ExpectSameAsGeneralPath(rows, LossDefaults("dapo"), at::kDouble, 1e-12);
}

TEST(FusedClipTest, HasTheSameBitsForAnyNumberOfThreads) {
  std::vector<LossRow> rows = RandomRows(2, 8000);
  for (LossRow& row : rows) row.entropy.clear();
  const LossConfig config = LossDefaults("gspo-token");
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const LossResult one = RunLoss(rows, config, at::kFloat);
  at::set_num_threads(3);
  const LossResult three = RunLoss(rows, config, at::kFloat);
  at::set_num_threads(before);
  EXPECT_EQ(one.loss, three.loss);
  EXPECT_EQ(one.gradient, three.gradient);
  EXPECT_EQ(one.output.metric_sums, three.output.metric_sums);
}

TEST(FusedClipTest, WhatMaskedTokensHoldChangesNoBit) {
  std::vector<LossRow> rows = Rows(4);
  const LossResult before = RunLoss(rows, LossDefaults("grpo"), at::kFloat);
  for (LossRow& row : rows) {
    for (size_t t = 0; t < row.mask.size(); ++t) {
      if (row.mask[t] != 0.0) continue;
      row.logp[t] = row.advantage[t] = std::nan("");
      row.old_logp[t] = row.sampling_logp[t] = row.ref_logp[t] = -1e30;
    }
  }
  const LossResult after = RunLoss(rows, LossDefaults("grpo"), at::kFloat);
  EXPECT_EQ(after.loss, before.loss);
  EXPECT_EQ(after.gradient, before.gradient);
  EXPECT_EQ(after.output.metric_sums, before.output.metric_sums);
}

TEST(FusedClipTest, ANanLogProbabilityMakesTheLossNan) {
  std::vector<LossRow> rows = Rows(3);
  for (LossRow& row : rows) row.mask[0] = 1.0;
  rows[0].logp[0] = std::nan("");
  EXPECT_TRUE(std::isnan(RunLoss(rows, LossDefaults("grpo")).loss));
}

}  // namespace
}  // namespace rft::testing
