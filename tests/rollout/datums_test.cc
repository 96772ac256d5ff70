#include "rollout/datums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Rollout MakeRollout(std::vector<TokenId> completion, std::vector<float> logprobs,
                    double advantage) {
  Rollout rollout;
  rollout.scored = true;
  rollout.advantage = advantage;
  Segment prompt{.kind = SegmentKind::kPrompt, .ids = {5, 6}};
  Segment model{.kind = SegmentKind::kModel, .ids = completion};
  model.loss_mask.assign(completion.size(), 1);
  model.sampling_logprobs = logprobs;
  for (float logprob : logprobs) model.logprobs.push_back(logprob / 2);
  rollout.segments = {prompt, model};
  return rollout;
}

Group MakeGroup(std::vector<Rollout> rollouts) {
  Group group;
  group.id = 9;
  group.prompt = {5, 6};
  group.rollouts = std::move(rollouts);
  return group;
}

TEST(DatumsTest, AlignsEveryVectorWithTheIds) {
  const std::vector<Group> groups = {MakeGroup({MakeRollout({7, 8}, {-1, -2}, 0.5)})};
  const DatumBatch batch = MakeDatums(groups, {});
  ASSERT_EQ(batch.datums.size(), 1u);
  const Datum& datum = batch.datums[0];
  EXPECT_THAT(datum.ids, ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(datum.weights, ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(datum.advantages, ElementsAre(0, 0, 0.5, 0.5));
  EXPECT_THAT(datum.sampling_logprobs, ElementsAre(0, 0, -1, -2));
  EXPECT_THAT(datum.old_logprobs, IsEmpty());
  EXPECT_EQ(datum.prefix_id, 9);
  EXPECT_EQ(datum.prefix_length, 2);
}

TEST(DatumsTest, LeavesOutRolloutsThatAreNotScored) {
  Rollout unscored = MakeRollout({7}, {-1}, 0.0);
  unscored.scored = false;
  const std::vector<Group> groups = {MakeGroup({unscored, MakeRollout({8}, {-1}, 1.0)})};
  const DatumBatch batch = MakeDatums(groups, {});
  ASSERT_EQ(batch.datums.size(), 1u);
  EXPECT_EQ(batch.rollouts[0], &groups[0].rollouts[1]);
}

TEST(DatumsTest, LeavesOutTruncatedRolloutsOnlyWhenAsked) {
  Rollout truncated = MakeRollout({7}, {-1}, 1.0);
  truncated.finish_reason = FinishReason::kLength;
  const std::vector<Group> groups = {MakeGroup({truncated})};
  EXPECT_EQ(MakeDatums(groups, {}).datums.size(), 1u);
  EXPECT_EQ(MakeDatums(groups, {.mask_truncated = true}).datums.size(), 0u);
}

TEST(DatumsTest, JoinsTheRoutesOfTheSegmentsAndKnowsWhichTokensHaveNone) {
  Rollout rollout = MakeRollout({7, 8}, {-1, -2}, 0.5);
  rollout.segments[1].routes = {1, 2, 3, 4, 5, 6};  // three bytes per token
  std::vector<Group> groups = {MakeGroup({rollout})};
  const TokenRoutes routes = MakeDatums(groups, {}).datums[0].routes;
  EXPECT_THAT(routes.known, ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(routes.packed, ElementsAre(0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6));
  groups[0].rollouts[0].segments[0].routes = {9, 9, 9, 7, 8, 9};
  EXPECT_THAT(MakeDatums(groups, {}).datums[0].routes.known, ElementsAre(0, 1, 1, 1));
  EXPECT_TRUE(MakeDatums(groups, {.replay_routes = false}).datums[0].routes.empty());
}

TEST(DatumsTest, GivesTheTokensOfToolsNoWeight) {
  Rollout rollout = MakeRollout({7}, {-1}, 1.0);
  rollout.segments.push_back({.kind = SegmentKind::kTool, .ids = {3, 4}});
  rollout.segments.push_back(
      {.kind = SegmentKind::kModel, .ids = {8}, .loss_mask = {1}, .sampling_logprobs = {-3}});
  const std::vector<Group> groups = {MakeGroup({rollout})};
  const DatumBatch batch = MakeDatums(groups, {});
  EXPECT_THAT(batch.datums[0].weights, ElementsAre(0, 0, 1, 0, 0, 1));
  EXPECT_THAT(batch.datums[0].sampling_logprobs, ElementsAre(0, 0, -1, 0, 0, -3));
}

TEST(DatumsTest, GivesEitherOfTheSamplersLogprobs) {
  const Rollout rollout = MakeRollout({7, 8}, {-1, -2}, 0.5);
  const std::vector<const Rollout*> rollouts = {&rollout};
  EXPECT_THAT(SamplerLogprobs(rollouts, true)[0], ElementsAre(0, 0, -1, -2));
  EXPECT_THAT(SamplerLogprobs(rollouts, false)[0], ElementsAre(0, 0, -0.5, -1));
}

}  // namespace
}  // namespace rft
