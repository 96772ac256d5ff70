#include "rollout/advantage.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <boost/json/string.hpp>

#include "rollout/rollout_advantages.h"
#include "tests/testing/loss_golden.h"

namespace rft {
namespace {

constexpr AdvantageKind kAllKinds[] = {
    AdvantageKind::kGrpo,        AdvantageKind::kDrGrpo,
    AdvantageKind::kRloo,        AdvantageKind::kMaxRl,
    AdvantageKind::kOpo,         AdvantageKind::kPassK,
    AdvantageKind::kBatchStd,    AdvantageKind::kGpg,
    AdvantageKind::kReinforcePp, AdvantageKind::kReinforcePpBaseline,
    AdvantageKind::kPassAtK};

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

// The oracle's names of the kinds. A group of one is left alone there ("raw"): 0 here.
const std::map<std::string, AdvantageKind> kOracleKinds = {
    {"grpo", AdvantageKind::kGrpo},
    {"dr_grpo", AdvantageKind::kDrGrpo},
    {"rloo", AdvantageKind::kRloo},
    {"opo", AdvantageKind::kOpo},
    {"passk", AdvantageKind::kPassK},
    {"grpo_batch_std", AdvantageKind::kBatchStd},
    {"gpg", AdvantageKind::kGpg},
    {"reinforce_pp", AdvantageKind::kReinforcePp},
    {"reinforce_pp_baseline", AdvantageKind::kReinforcePpBaseline}};

TEST(AdvantageTest, MatchesTheOracle) {
  const auto cases = testing::LossGoldenCases("advantage");
  ASSERT_GE(cases.size(), 28u);
  for (const boost::json::value& golden : cases) {
    SCOPED_TRACE(golden.at("id").as_string().c_str());
    const boost::json::object& config = golden.at("config").as_object();
    AdvantageOptions options;
    options.kind = kOracleKinds.at(config.at("kind").as_string().c_str());
    if (const auto* eps = config.if_contains("eps")) options.eps = eps->to_number<double>();
    const std::vector<double> rewards = testing::Doubles(golden.at("inputs").at("rewards"));
    const std::vector<double> group_ids = testing::Doubles(golden.at("inputs").at("groups"));
    const std::vector<double> lengths = testing::Doubles(golden.at("inputs").at("lens"));
    const std::vector<double> expected = testing::Doubles(golden.at("expected").at("advantages"));
    std::map<double, std::vector<size_t>> members;
    for (size_t i = 0; i < rewards.size(); ++i) members[group_ids[i]].push_back(i);
    std::vector<RewardGroup> groups;
    for (const auto& [id, indices] : members) {
      RewardGroup& group = groups.emplace_back();
      for (size_t i : indices) {
        group.rewards.push_back(rewards[i]);
        group.lengths.push_back(lengths[i]);
      }
    }
    const std::vector<std::vector<double>> actual = ComputeAdvantages(options, groups);
    for (const auto& [id, indices] : members) {
      const std::vector<double>& row = actual[static_cast<size_t>(id)];
      for (size_t j = 0; j < indices.size(); ++j) {
        const bool alone = indices.size() == 1 && options.kind != AdvantageKind::kReinforcePp;
        EXPECT_NEAR(row[j], alone ? 0.0 : expected[indices[j]], 1e-9);
      }
    }
  }
}

TEST(AdvantageTest, ReinforcePpWithBaselineWhitensCentredRewards) {
  const RewardGroup a{{1.0, 0.0, 0.5}, {4.0, 2.0, 1.0}}, b{{0.2, 0.8}, {3.0, 6.0}};
  const RewardGroup centred_a{{0.5, -0.5, 0.0}, a.lengths}, centred_b{{-0.3, 0.3}, b.lengths};
  const auto actual = ComputeAdvantages({.kind = AdvantageKind::kReinforcePpBaseline}, {a, b});
  const auto expected =
      ComputeAdvantages({.kind = AdvantageKind::kReinforcePp}, {centred_a, centred_b});
  for (size_t g = 0; g < 2; ++g)
    for (size_t i = 0; i < actual[g].size(); ++i) EXPECT_NEAR(actual[g][i], expected[g][i], 1e-12);
}

TEST(AdvantageTest, MaxRlDividesByTheMean) {
  const std::vector<double> a = ComputeAdvantages(AdvantageKind::kMaxRl, {1.0, 0.0, 0.0, 0.0});
  EXPECT_NEAR(a[0], 3.0, 1e-4);
  EXPECT_NEAR(a[1], -1.0, 1e-4);
}

TEST(AdvantageTest, HardPromptsWeighMoreAndTheClipComesLast) {
  const RewardGroup hard{{1.0, 0.0, 0.0, 0.0}, {}}, easy{{1.0, 1.0, 1.0, 0.0}, {}};
  AdvantageOptions options{.kind = AdvantageKind::kDrGrpo, .difficulty_weight = 2.0};
  auto a = ComputeAdvantages(options, {hard, easy});
  EXPECT_DOUBLE_EQ(a[0][0], 0.75 * (1.0 + 2.0 * 0.75));
  EXPECT_DOUBLE_EQ(a[1][3], -0.75 * (1.0 + 2.0 * 0.25));
  options.clip = 1.2;
  a = ComputeAdvantages(options, {hard, easy});
  EXPECT_EQ(a[0][0], 1.2);
  EXPECT_DOUBLE_EQ(a[1][3], -1.125);
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
    for (double a : ComputeAdvantages(kind, Rewards(10, 0.1))) EXPECT_NEAR(a, 0.0, 1e-11);
    if (kind == AdvantageKind::kReinforcePp) continue;  // no baseline but the step's own mean
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
  AssignAdvantages({.kind = AdvantageKind::kDrGrpo}, absl::MakeSpan(&group, 1));
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
            "unknown advantage 'gae'; known ones: grpo, dr-grpo, rloo, max-rl, opo, pass-k, "
            "batch-std, gpg, reinforce-pp, reinforce-pp-baseline, pass-at-k");
  EXPECT_EQ(*AdvantageKindFromName("dr_grpo"), AdvantageKind::kDrGrpo);
}

}  // namespace
}  // namespace rft
