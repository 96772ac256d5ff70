// Versions of the packed weights: whoever holds one keeps its bits, and released memory is used again.
#include <set>

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

class WeightVersionsTest : public ::testing::Test {
 protected:
  at::Tensor Hidden(const ModelWeights& weights) {
    return testing::HiddenStates(*model_, weights, testing::RandomIds(12, 3));
  }
  void ChangeParameters() { model_->parameters().values().mul_(1.01); }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(testing::Family::kQwen3, at::kFloat);
};

TEST_F(WeightVersionsTest, CountsUpAndKeepsTheCurrentOne) {
  EXPECT_EQ(model_->weights()->version(), 1);
  EXPECT_EQ(model_->weights(), model_->weights());
  EXPECT_EQ(model_->PackNewVersion()->version(), 2);
  EXPECT_EQ(model_->weights()->version(), 2);
}

TEST_F(WeightVersionsTest, NeverTouchesAVersionThatSomebodyHolds) {
  const auto held = model_->weights();
  const at::Tensor before = Hidden(*held);
  for (int i = 0; i < 3; ++i) {
    ChangeParameters();
    EXPECT_FALSE(at::equal(Hidden(*model_->PackNewVersion()), before));
  }
  EXPECT_EQ(held->version(), 1);
  EXPECT_TRUE(at::equal(Hidden(*held), before));
}

TEST_F(WeightVersionsTest, UsesReleasedMemoryAgain) {
  std::set<const void*> storages;
  for (int i = 0; i < 10; ++i) {
    ChangeParameters();
    storages.insert(model_->PackNewVersion()->head.packed.data_ptr());
  }
  EXPECT_EQ(storages.size(), 1u);
}

TEST_F(WeightVersionsTest, NeedsTwoCopiesWhileTheNewestIsHeld) {
  std::set<const void*> storages;
  std::shared_ptr<const ModelWeights> sampled = model_->weights();
  for (int i = 0; i < 10; ++i) {
    storages.insert(sampled->head.packed.data_ptr());
    sampled = model_->PackNewVersion();  // the engine switches only when the new one is ready
  }
  EXPECT_EQ(storages.size(), 2u);
}

TEST_F(WeightVersionsTest, GivesARepackedVersionTheBitsOfAFreshOne) {
  model_->weights();
  ChangeParameters();
  const at::Tensor reused = Hidden(*model_->PackNewVersion());
  const auto held = model_->weights();
  EXPECT_TRUE(at::equal(Hidden(*model_->PackNewVersion()), reused));
}

}  // namespace
}  // namespace rft
