#include "rollout/kl_penalty.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

// Two rollouts of two trained tokens each, rewards 1 and 0.
class KlPenaltyTest : public ::testing::Test {
 protected:
  KlPenaltyTest() {
    for (int i = 0; i < 2; ++i) {
      Rollout rollout;
      rollout.segments = {{.kind = SegmentKind::kPrompt, .ids = {5}},
                          {.kind = SegmentKind::kModel, .ids = {7, 8}, .loss_mask = {1, 1}}};
      rollout.segments[1].sampling_logprobs = {-1.0f, -2.0f};
      rollout.scored = true;
      rollout.reward = i == 0 ? 1.0 : 0.0;
      rollout.advantage = i == 0 ? 0.5 : -0.5;
      groups_[0].rollouts.push_back(rollout);
    }
    groups_[0].prompt = {5};
    batches_.push_back(MakeDatums(groups_, {}));
    for (Datum& datum : batches_[0].datums) datum.ref_logprobs = {0.0f, -1.0f, -2.0f};
  }

  std::vector<Group> groups_ = std::vector<Group>(1);
  std::vector<DatumBatch> batches_;
};

TEST_F(KlPenaltyTest, RewardsLoseTheSumOverTheRollout) {
  batches_[0].datums[0].ref_logprobs = {0.0f, -1.5f, -2.5f};  // moved by 0.5 twice
  AddKlToRewards(0.2, {.kind = AdvantageKind::kDrGrpo}, groups_, absl::MakeSpan(batches_));
  // 1 - 0.2 * 1 against 0: advantages +-0.4.
  EXPECT_THAT(batches_[0].datums[0].advantages,
              ElementsAre(0.0f, FloatNear(0.4f, 1e-6f), FloatNear(0.4f, 1e-6f)));
  EXPECT_THAT(batches_[0].datums[1].advantages,
              ElementsAre(0.0f, FloatNear(-0.4f, 1e-6f), FloatNear(-0.4f, 1e-6f)));
}

TEST_F(KlPenaltyTest, AdvantagesMoveByTheCentredDifference) {
  batches_[0].datums[0].ref_logprobs = {0.0f, -1.4f, -2.0f};  // one token moved by 0.4: mean 0.1
  AddKlToAdvantages(0.5, absl::MakeSpan(batches_));
  EXPECT_THAT(batches_[0].datums[0].advantages,
              ElementsAre(0.0f, FloatNear(0.5f - 0.15f, 1e-6f), FloatNear(0.55f, 1e-6f)));
  EXPECT_THAT(batches_[0].datums[1].advantages,
              ElementsAre(0.0f, FloatNear(-0.45f, 1e-6f), FloatNear(-0.45f, 1e-6f)));
}

TEST_F(KlPenaltyTest, TheTrainersOldLogProbabilitiesComeFirst) {
  for (Datum& datum : batches_[0].datums) datum.old_logprobs = {0.0f, -1.0f, -2.0f};
  batches_[0].datums[0].sampling_logprobs = {0.0f, -9.0f, -9.0f};
  AddKlToAdvantages(0.5, absl::MakeSpan(batches_));
  EXPECT_THAT(batches_[0].datums[0].advantages, ElementsAre(0.0f, 0.5f, 0.5f));
}

}  // namespace
}  // namespace rft
