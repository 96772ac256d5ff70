#include "rollout/rollout_advantages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rollout/datums.h"
#include "rollout/kl_penalty.h"
#include "rollout/zero_variance_filter.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Two turns of two tokens each; the grader gave them these scores.
Rollout TwoTurns(std::vector<double> turn_scores, std::vector<double> token_advantages = {}) {
  Rollout rollout;
  rollout.segments = {{.kind = SegmentKind::kPrompt, .ids = {1}},
                      {.kind = SegmentKind::kModel, .ids = {2, 3}, .loss_mask = {1, 1}},
                      {.kind = SegmentKind::kTool, .ids = {4}},
                      {.kind = SegmentKind::kModel, .ids = {5, 6}, .loss_mask = {1, 1}}};
  Score score;
  for (double x : turn_scores) score.value += x;
  score.turn_scores = std::move(turn_scores);
  score.token_advantages = std::move(token_advantages);
  rollout.reward = score.value;
  rollout.grades = {{"judge", 1.0, std::move(score)}};
  rollout.scored = true;
  return rollout;
}

Group GroupOf(std::vector<Rollout> rollouts) {
  Group group;
  group.prompt = {1};
  group.rollouts = std::move(rollouts);
  return group;
}

constexpr AdvantageOptions kByTurn{
    .kind = AdvantageKind::kDrGrpo, .level = AdvantageLevel::kTurn, .turn_discount = 0.0};

TEST(RolloutAdvantagesTest, ATurnIsComparedWithTheSameTurnOfTheOthers) {
  Group group = GroupOf({TwoTurns({1, 0}), TwoTurns({0, 0})});
  AssignAdvantages(kByTurn, absl::MakeSpan(&group, 1));
  EXPECT_THAT(group.rollouts[0].token_advantages, ElementsAre(0.5, 0.5, 0, 0));
  EXPECT_EQ(group.rollouts[0].advantage, 0.25);
  EXPECT_THAT(MakeDatums(absl::MakeConstSpan(&group, 1), {}).datums[1].advantages,
              ElementsAre(0, -0.5, -0.5, 0, 0, 0));
}

TEST(RolloutAdvantagesTest, AtLevelRolloutPartsDoNotMatter) {
  Group group = GroupOf({TwoTurns({1, 0}), TwoTurns({0, 0})});
  AssignAdvantages({.kind = AdvantageKind::kDrGrpo}, absl::MakeSpan(&group, 1));
  EXPECT_THAT(group.rollouts[0].token_advantages, IsEmpty());
  EXPECT_EQ(group.rollouts[0].advantage, 0.5);
}

TEST(RolloutAdvantagesTest, UnscoredRolloutsGetZerosAndHaveNoVote) {
  Rollout unscored = TwoTurns({9, 9}, {1, 1, 1, 1});
  unscored.scored = false;
  unscored.token_advantages = {7};
  Group group = GroupOf({TwoTurns({1, 0}), unscored, TwoTurns({0, 0})});
  AssignAdvantages(kByTurn, absl::MakeSpan(&group, 1));
  EXPECT_THAT(group.rollouts[0].token_advantages, ElementsAre(0.5, 0.5, 0, 0));
  EXPECT_EQ(group.rollouts[1].advantage, 0.0);
  EXPECT_THAT(group.rollouts[1].token_advantages, IsEmpty());
}

TEST(RolloutAdvantagesTest, PenaltiesOnTheWholeCountForTheLastTurn) {
  Rollout rollout = TwoTurns({1, 2});
  rollout.reward -= 0.5;  // soft overlong
  EXPECT_THAT(TurnRewards(rollout), ElementsAre(1, 1.5));
}

TEST(RolloutAdvantagesTest, KlInTheRewardIsTakenOffTheTurnThatMoved) {
  std::vector<Group> groups = {GroupOf({TwoTurns({1, 0}), TwoTurns({0, 0})})};
  std::vector<DatumBatch> batches = {MakeDatums(groups, {})};
  for (Datum& datum : batches[0].datums) {
    datum.sampling_logprobs = {0, -1, -1, 0, -1, -1};
    datum.ref_logprobs = datum.sampling_logprobs;
  }
  batches[0].datums[0].ref_logprobs = {0, -1, -1, 0, -1.5, -1.5};  // moved by 1 in turn 1
  AddKlToRewards({.kl_coef = 0.2, .kl_estimator = KlEstimator::kK1}, kByTurn, groups,
                 absl::MakeSpan(batches));
  EXPECT_THAT(batches[0].datums[0].advantages, ElementsAre(0, 0.5f, 0.5f, 0, -0.1f, -0.1f));
  EXPECT_THAT(batches[0].datums[1].advantages, ElementsAre(0, -0.5f, -0.5f, 0, 0.1f, 0.1f));
}

TEST(RolloutAdvantagesTest, GroupsOfEqualRewardsAreKeptWhereTheirPartsTeach) {
  const Group turns = GroupOf({TwoTurns({1, 0}), TwoTurns({0, 1})});
  EXPECT_EQ(JudgeGroup(turns, {}), GroupVerdict::kAllRight);
  EXPECT_EQ(JudgeGroup(turns, {.level = AdvantageLevel::kTurn}), GroupVerdict::kKeep);
  EXPECT_EQ(JudgeGroup(turns, {.tolerance = 2.0, .level = AdvantageLevel::kTurn}),
            GroupVerdict::kAllRight);
  const Group tokens = GroupOf({TwoTurns({1, 0}, {0, 0.5, 0, 0}), TwoTurns({1, 0})});
  EXPECT_EQ(JudgeGroup(tokens, {}), GroupVerdict::kKeep);
}

TEST(RolloutAdvantagesTest, FilteredOverlongRolloutsStillVote) {
  Rollout cut = TwoTurns({0, 0});
  cut.finish_reason = FinishReason::kLength;
  Group group = GroupOf({TwoTurns({1, 0}), TwoTurns({1, 0}), cut});
  AssignAdvantages({.kind = AdvantageKind::kRloo}, absl::MakeSpan(&group, 1));
  const DatumBatch batch = MakeDatums(absl::MakeConstSpan(&group, 1), {.mask_truncated = true});
  ASSERT_EQ(batch.datums.size(), 2u);
  EXPECT_EQ(batch.datums[0].advantages[1], 0.5f);  // 1 against the mean of 1 and 0
}

}  // namespace
}  // namespace rft
