#include "rollout/advantage.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <boost/json/string.hpp>

#include "tests/testing/loss_golden.h"

namespace rft {
namespace {

constexpr AdvantageKind kAllKinds[] = {AdvantageKind::kGrpo, AdvantageKind::kDrGrpo,
                                       AdvantageKind::kRloo};

Group GroupOf(const Rewards& rewards) {
  Group group;
  for (const std::optional<double>& reward : rewards) {
    Rollout rollout;
    rollout.scored = reward.has_value();
    rollout.reward = reward.value_or(-77.0);  // an unscored rollout's number means nothing
    rollout.advantage = 99.0;
    group.rollouts.push_back(rollout);
  }
  return group;
}

TEST(AdvantageTest, MatchesTheOracle) {
  const auto cases = testing::LossGoldenCases("advantage");
  ASSERT_EQ(cases.size(), 6u);
  for (const boost::json::value& golden : cases) {
    SCOPED_TRACE(golden.at("id").as_string().c_str());
    const auto kind = AdvantageKindFromName(golden.at("config").at("kind").as_string().c_str());
    ASSERT_TRUE(kind.ok());
    const std::vector<double> rewards = testing::Doubles(golden.at("inputs").at("rewards"));
    const std::vector<double> group_ids = testing::Doubles(golden.at("inputs").at("groups"));
    const std::vector<double> expected = testing::Doubles(golden.at("expected").at("advantages"));
    std::map<double, std::vector<size_t>> members;
    for (size_t i = 0; i < rewards.size(); ++i) members[group_ids[i]].push_back(i);
    for (const auto& [id, indices] : members) {
      Rewards group;
      for (size_t i : indices) group.push_back(rewards[i]);
      const std::vector<double> actual = ComputeAdvantages(*kind, group);
      for (size_t j = 0; j < indices.size(); ++j)
        EXPECT_NEAR(actual[j], expected[indices[j]], 1e-9);
    }
  }
}

TEST(AdvantageTest, UnscoredRolloutsGetZeroAndHaveNoVote) {
  for (AdvantageKind kind : kAllKinds) {
    const std::vector<double> without = ComputeAdvantages(kind, {0.1, 0.7, 0.35, 1.0});
    const std::vector<double> with =
        ComputeAdvantages(kind, {std::nullopt, 0.1, 0.7, std::nullopt, 0.35, 1.0});
    EXPECT_EQ(with,
              (std::vector<double>{0.0, without[0], without[1], 0.0, without[2], without[3]}));
  }
}

TEST(AdvantageTest, NonFiniteRewardsCountAsUnscored) {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               inf = std::numeric_limits<double>::infinity();
  for (AdvantageKind kind : kAllKinds) {
    const std::vector<double> without = ComputeAdvantages(kind, {0.1, 0.7});
    EXPECT_EQ(ComputeAdvantages(kind, {0.1, nan, 0.7, inf}),
              (std::vector<double>{without[0], 0.0, without[1], 0.0}));
  }
}

TEST(AdvantageTest, EqualRewardsGiveExactZeros) {
  // The mean of ten times 0.1 is not 0.1 in floating point.
  for (AdvantageKind kind : kAllKinds) {
    EXPECT_EQ(ComputeAdvantages(kind, Rewards(10, 0.1)), std::vector<double>(10, 0.0));
  }
}

TEST(AdvantageTest, OneOrNoScoredRolloutGivesZeros) {
  for (AdvantageKind kind : kAllKinds) {
    EXPECT_EQ(ComputeAdvantages(kind, {5.0}), std::vector<double>{0.0});
    EXPECT_EQ(ComputeAdvantages(kind, {std::nullopt, 5.0}), (std::vector<double>{0.0, 0.0}));
    EXPECT_EQ(ComputeAdvantages(kind, {std::nullopt, std::nullopt}),
              (std::vector<double>{0.0, 0.0}));
    EXPECT_TRUE(ComputeAdvantages(kind, {}).empty());
  }
}

TEST(AdvantageTest, GrpoHasZeroMeanAndUnitSampleDeviation) {
  const std::vector<double> a = ComputeAdvantages(AdvantageKind::kGrpo, {1.0, 0.0, 0.0, 0.0});
  EXPECT_NEAR(a[0], 1.5, 1e-5);
  EXPECT_NEAR(a[1], -0.5, 1e-5);
  EXPECT_NEAR(a[0] + a[1] + a[2] + a[3], 0.0, 1e-12);
}

TEST(AdvantageTest, RlooComparesWithTheMeanOfTheOthers) {
  const std::vector<double> a = ComputeAdvantages(AdvantageKind::kRloo, {1.0, 0.0, 0.5});
  EXPECT_NEAR(a[0], 1.0 - 0.25, 1e-12);
  EXPECT_NEAR(a[1], 0.0 - 0.75, 1e-12);
}

TEST(AdvantageTest, AssignsToEveryRolloutOfAGroup) {
  Group group = GroupOf({1.0, std::nullopt, 0.0});
  AssignAdvantages(AdvantageKind::kDrGrpo, &group);
  EXPECT_EQ(group.rollouts[0].advantage, 0.5);
  EXPECT_EQ(group.rollouts[1].advantage, 0.0);
  EXPECT_EQ(group.rollouts[2].advantage, -0.5);
}

TEST(AdvantageTest, NamesRoundTripAndUnknownOnesListTheKnown) {
  for (AdvantageKind kind : kAllKinds)
    EXPECT_EQ(*AdvantageKindFromName(AdvantageKindName(kind)), kind);
  const absl::Status status = AdvantageKindFromName("gae").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()),
            "unknown advantage 'gae'; known ones: grpo, dr_grpo, rloo");
}

}  // namespace
}  // namespace rft
