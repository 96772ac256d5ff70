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

// Every estimator's value where d = ref - lp is -0.5 and 3: k3 is e^d - d - 1.
struct EstimatorCase {
  KlEstimator estimator;
  double low, high;
};
constexpr EstimatorCase kEstimators[] = {{KlEstimator::kK1, 0.5, -3.0},
                                         {KlEstimator::kK2, 0.125, 4.5},
                                         {KlEstimator::kK3, 0.1065306597126334, 16.085536923187668},
                                         {KlEstimator::kAbs, 0.5, 3.0},
                                         {KlEstimator::kLowVar, 0.1065306597126334, 10.0}};

TEST_F(KlPenaltyTest, RewardsLoseTheSumOverTheRolloutOfEachEstimator) {
  batches_[0].datums[0].ref_logprobs = {0.0f, -1.5f, 1.0f};  // the other's are its own
  for (const auto& [estimator, low, high] : kEstimators) {
    AddKlToRewards({.kl_coef = 0.2, .kl_estimator = estimator}, {.kind = AdvantageKind::kDrGrpo},
                   groups_, absl::MakeSpan(batches_));
    // 1 - 0.2 (low + high) against 0, minus their mean.
    const auto half = static_cast<float>((1.0 - 0.2 * (low + high)) / 2.0);
    EXPECT_THAT(batches_[0].datums[0].advantages,
                ElementsAre(0.0f, FloatNear(half, 1e-6f), FloatNear(half, 1e-6f)));
    EXPECT_THAT(batches_[0].datums[1].advantages,
                ElementsAre(0.0f, FloatNear(-half, 1e-6f), FloatNear(-half, 1e-6f)));
  }
}

TEST_F(KlPenaltyTest, AdvantagesMoveByTheCentredValueOfEachEstimator) {
  batches_[0].datums[0].ref_logprobs = {0.0f, -1.5f, 1.0f};
  const std::vector<DatumBatch> before = batches_;
  for (const auto& [estimator, low, high] : kEstimators) {
    batches_ = before;
    AddKlToAdvantages({.kl_coef = 0.5, .kl_estimator = estimator}, absl::MakeSpan(batches_));
    const double mean = (low + high) / 4.0;  // of four tokens
    const auto near = [](double value) { return FloatNear(static_cast<float>(value), 1e-6f); };
    EXPECT_THAT(batches_[0].datums[0].advantages,
                ElementsAre(0.0f, near(0.5 + 0.5 * (mean - low)), near(0.5 + 0.5 * (mean - high))));
    EXPECT_THAT(batches_[0].datums[1].advantages,
                ElementsAre(0.0f, near(-0.5 + 0.5 * mean), near(-0.5 + 0.5 * mean)));
  }
}

TEST_F(KlPenaltyTest, TheTrainersOldLogProbabilitiesComeFirst) {
  for (Datum& datum : batches_[0].datums) datum.old_logprobs = {0.0f, -1.0f, -2.0f};
  batches_[0].datums[0].sampling_logprobs = {0.0f, -9.0f, -9.0f};
  AddKlToAdvantages({.kl_coef = 0.5}, absl::MakeSpan(batches_));
  EXPECT_THAT(batches_[0].datums[0].advantages, ElementsAre(0.0f, 0.5f, 0.5f));
}

}  // namespace
}  // namespace rft
