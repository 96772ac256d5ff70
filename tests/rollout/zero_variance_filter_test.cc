#include "rollout/zero_variance_filter.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json/array.hpp>

#include "tests/testing/loss_golden.h"

namespace rft {
namespace {

Group GroupWith(const std::vector<std::optional<double>>& rewards,
                FinishReason finish = FinishReason::kStop) {
  Group group;
  for (const std::optional<double>& reward : rewards) {
    Rollout rollout;
    rollout.scored = reward.has_value();
    rollout.reward = reward.value_or(0.0);
    rollout.finish_reason = finish;
    group.rollouts.push_back(rollout);
  }
  return group;
}

GroupVerdict Judge(const std::vector<std::optional<double>>& rewards,
                   const GroupFilterOptions& options = {}) {
  return JudgeGroup(GroupWith(rewards), options);
}

TEST(ZeroVarianceFilterTest, KeepsWhatTheExactRuleOfTheOracleKeeps) {
  const auto cases = testing::LossGoldenCases("filter");
  ASSERT_EQ(cases.size(), 1u);
  const auto& groups = cases[0].at("inputs").at("groups").as_array();
  const auto& expected = cases[0].at("expected").at("exact").as_array();
  ASSERT_EQ(groups.size(), 8u);
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::vector<double> rewards = testing::Doubles(groups[i]);
    EXPECT_EQ(Judge({rewards.begin(), rewards.end()}) == GroupVerdict::kKeep, expected[i].as_bool())
        << "group " << i;
  }
}

TEST(ZeroVarianceFilterTest, NamesTheReasonFromTheRewardThatAllShare) {
  EXPECT_EQ(Judge({1.0, 1.0}), GroupVerdict::kAllRight);
  EXPECT_EQ(Judge({0.0, 0.0}), GroupVerdict::kAllWrong);
  EXPECT_EQ(Judge({-1.0, -1.0}), GroupVerdict::kAllWrong);
  EXPECT_EQ(Judge({0.2, 0.2}), GroupVerdict::kZeroVariance);
}

TEST(ZeroVarianceFilterTest, ReasonThresholdsFollowTheRewardScale) {
  GroupFilterOptions options;
  options.right_at_least = 10.0;
  options.wrong_at_most = 2.0;
  EXPECT_EQ(Judge({10.0, 10.0}, options), GroupVerdict::kAllRight);
  EXPECT_EQ(Judge({2.0, 2.0}, options), GroupVerdict::kAllWrong);
  EXPECT_EQ(Judge({1.0, 10.0}, options), GroupVerdict::kKeep);
}

TEST(ZeroVarianceFilterTest, IgnoresUnscoredRollouts) {
  EXPECT_EQ(Judge({1.0, std::nullopt, 1.0}), GroupVerdict::kAllRight);
  EXPECT_EQ(Judge({1.0, std::nullopt, 0.0}), GroupVerdict::kKeep);
}

TEST(ZeroVarianceFilterTest, DropsGroupsWithTooFewFiniteRewards) {
  EXPECT_EQ(Judge({1.0, std::nullopt}), GroupVerdict::kTooFewGraded);
  EXPECT_EQ(Judge({1.0, std::numeric_limits<double>::quiet_NaN()}), GroupVerdict::kTooFewGraded);
  EXPECT_EQ(Judge({std::nullopt, std::nullopt}), GroupVerdict::kTooFewGraded);
  EXPECT_EQ(Judge({}), GroupVerdict::kTooFewGraded);
  EXPECT_EQ(Judge({1.0, 0.0}, {.min_scored = 3}), GroupVerdict::kTooFewGraded);
}

TEST(ZeroVarianceFilterTest, ToleranceWidensWhatCountsAsEqual) {
  EXPECT_EQ(Judge({0.1 + 0.2, 0.3}), GroupVerdict::kKeep);
  EXPECT_EQ(Judge({0.1 + 0.2, 0.3}, {.tolerance = 1e-6}), GroupVerdict::kZeroVariance);
}

TEST(ZeroVarianceFilterTest, DropsTruncatedGroupsOnlyWhenAskedAndOnlyIfAllAre) {
  Group group = GroupWith({1.0, 0.0}, FinishReason::kLength);
  EXPECT_EQ(JudgeGroup(group, {}), GroupVerdict::kKeep);
  EXPECT_EQ(JudgeGroup(group, {.drop_all_truncated = true}), GroupVerdict::kTruncated);
  group.rollouts[0].finish_reason = FinishReason::kStop;
  EXPECT_EQ(JudgeGroup(group, {.drop_all_truncated = true}), GroupVerdict::kKeep);
}

TEST(ZeroVarianceFilterTest, KeepsEqualRewardsWhenSwitchedOff) {
  EXPECT_EQ(Judge({1.0, 1.0}, {.drop_zero_variance = false}), GroupVerdict::kKeep);
  EXPECT_EQ(Judge({1.0}, {.drop_zero_variance = false}), GroupVerdict::kTooFewGraded);
}

TEST(ZeroVarianceFilterTest, EveryVerdictHasItsOwnWord) {
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kKeep), "keep");
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kAllRight), "all_right");
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kAllWrong), "all_wrong");
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kZeroVariance), "zero_variance");
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kTooFewGraded), "too_few_graded");
  EXPECT_STREQ(GroupVerdictName(GroupVerdict::kTruncated), "truncated");
}

TEST(ZeroVarianceFilterTest, ValidationNamesTheField) {
  EXPECT_TRUE(ValidateGroupFilter({}).ok());
  EXPECT_EQ(std::string(ValidateGroupFilter({.min_scored = 0}).message()),
            "min_scored: expected at least 1, got 0");
  EXPECT_FALSE(ValidateGroupFilter({.tolerance = std::numeric_limits<double>::quiet_NaN()}).ok());
  EXPECT_FALSE(ValidateGroupFilter({.right_at_least = 0.0, .wrong_at_most = 0.0}).ok());
}

}  // namespace
}  // namespace rft
