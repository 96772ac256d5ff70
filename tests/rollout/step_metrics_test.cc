#include "rollout/step_metrics.h"

#include <cmath>

#include <gtest/gtest.h>

namespace rft {
namespace {

Rollout MakeRollout(int64_t group, Grade grade, size_t num_tokens,
                    FinishReason reason = FinishReason::kStop) {
  Rollout rollout;
  rollout.group = group;
  rollout.finish_reason = reason;
  rollout.scored = IsScore(grade);
  rollout.reward = rollout.scored ? std::get<Score>(grade).value : 0.0;
  rollout.grades = {{"exact", 1.0, std::move(grade)}};
  rollout.segments = {{.kind = SegmentKind::kModel, .ids = std::vector<TokenId>(num_tokens, 1)}};
  return rollout;
}

StepBatch MakeBatch() {
  Group kept, dropped;
  kept.id = 1;
  kept.rollouts = {MakeRollout(1, Score{1.0, {{"digits", 2.0}}, ""}, 4),
                   MakeRollout(1, Score{0.0}, 8, FinishReason::kLength)};
  dropped.id = 0;
  dropped.rollouts = {MakeRollout(0, Score{0.5}, 2), MakeRollout(0, Timeout{1.0}, 2)};
  StepBatch batch;
  batch.groups = {kept};
  batch.dropped = {{dropped, GroupVerdict::kTooFewGraded}};
  return batch;
}

TEST(StepMetricsTest, CountsDroppedGroupsInTheReward) {
  const Metrics metrics = StepMetrics(MakeBatch());
  EXPECT_EQ(metrics.at("reward_mean"), 0.5);
  EXPECT_EQ(metrics.at("reward_std"), 0.5);
  EXPECT_EQ(metrics.at("reward_mean_kept"), 0.5);
  EXPECT_EQ(metrics.at("num_groups"), 1.0);
  EXPECT_EQ(metrics.at("filtered/too_few_graded"), 1.0);
  EXPECT_EQ(metrics.at("tokens_sampled"), 16.0);
}

TEST(StepMetricsTest, TakesLengthsAndFractionsOverAllRollouts) {
  const Metrics metrics = StepMetrics(MakeBatch());
  EXPECT_EQ(metrics.at("completion_length_mean"), 4.0);
  EXPECT_EQ(metrics.at("completion_length_max"), 8.0);
  EXPECT_EQ(metrics.at("truncated_fraction"), 0.25);
  EXPECT_EQ(metrics.at("unscored_fraction"), 0.25);
}

TEST(StepMetricsTest, GivesEachGradersMeanSubScoresAndFailures) {
  const Metrics metrics = StepMetrics(MakeBatch());
  EXPECT_EQ(metrics.at("grader/exact"), 0.5);
  EXPECT_EQ(metrics.at("grader/exact/digits"), 2.0);
  EXPECT_EQ(metrics.at("grader/exact/timeout"), 1.0);
  EXPECT_EQ(metrics.count("grader/exact/error"), 0u);
}

TEST(StepMetricsTest, HasNoRewardWhereNothingIsScored) {
  const Rollout rollout = MakeRollout(0, GradeError{"x"}, 1);
  EXPECT_TRUE(std::isnan(RolloutMetrics(std::vector<const Rollout*>{&rollout}).at("reward_mean")));
}

TEST(StepMetricsTest, ListsRolloutsByGroup) {
  const StepBatch batch = MakeBatch();
  EXPECT_EQ(AllRollouts(batch)[0]->group, 0);
  EXPECT_EQ(AllRollouts(batch)[2]->group, 1);
}

}  // namespace
}  // namespace rft
