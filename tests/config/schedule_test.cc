#include "rft/config/schedule.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

TrainerConfig Trainer(const std::string& schedule, double min_lr_ratio = 0.0) {
  TrainerConfig trainer;
  trainer.schedule = schedule;
  trainer.learning_rate = 1.0;
  trainer.steps = 10;
  trainer.warmup_steps = 2;
  trainer.min_lr_ratio = min_lr_ratio;
  return trainer;
}

TEST(LearningRateTest, WarmsUpLinearlyWithoutAStepOfZero) {
  for (const char* schedule : {"constant", "linear", "cosine"}) {
    EXPECT_DOUBLE_EQ(LearningRateAt(Trainer(schedule), 0), 0.5);
    EXPECT_DOUBLE_EQ(LearningRateAt(Trainer(schedule), 1), 1.0);
    EXPECT_DOUBLE_EQ(LearningRateAt(Trainer(schedule), 2), 1.0);
  }
}

TEST(LearningRateTest, ConstantStays) {
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("constant"), 9), 1.0);
}

TEST(LearningRateTest, LinearFallsToItsMinimum) {
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("linear"), 3), 0.875);
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("linear"), 9), 0.125);
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("linear", 0.1), 6), 0.55);
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("linear", 0.1), 10), 0.1);
  EXPECT_DOUBLE_EQ(LearningRateAt(Trainer("linear", 0.1), 99), 0.1);
}

TEST(LearningRateTest, CosineIsHalfwayInTheMiddle) {
  EXPECT_NEAR(LearningRateAt(Trainer("cosine"), 6), 0.5, 1e-12);
  EXPECT_NEAR(LearningRateAt(Trainer("cosine"), 4), 0.85355339059327373,
              1e-12);  // (1 + cos(pi / 4)) / 2
  EXPECT_NEAR(LearningRateAt(Trainer("cosine", 0.2), 10), 0.2, 1e-12);
}

TEST(LearningRateTest, SurvivesAWarmUpLongerThanTheRun) {
  TrainerConfig trainer = Trainer("linear");
  trainer.warmup_steps = 20;
  EXPECT_DOUBLE_EQ(LearningRateAt(trainer, 9), 0.5);
}

}  // namespace
}  // namespace rft
