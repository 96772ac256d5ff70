// Activation checkpointing: the same gradient, bit for bit, from activations that were computed twice.
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/models/lora.h"
#include "rft/train/trainer.h"
#include "tests/models/tiny_model.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

class CheckpointTest : public ::testing::TestWithParam<std::tuple<at::ScalarType, bool>> {
 protected:
  // Gradient of two accumulated calls, the second with the adapter's dropout when there is an adapter.
  at::Tensor Gradient(int64_t every) {
    const auto [dtype, with_adapter] = GetParam();
    auto model = testing::MakeTinyModel(testing::Family::kQwen3, dtype);
    TrainerOptions options{.token_budget = 300, .checkpoint_every = every};
    if (with_adapter)
      options.adapter = *LoraAdapter::Create(model, {.rank = 4, .alpha = 8.0, .dropout = 0.2});
    auto trainer = *Trainer::Create(model, options);
    for (uint64_t seed : {1, 2}) {
      const auto pass = trainer->ForwardBackward(testing::RandomDatums(4, seed),
                                                 FindLoss("grpo").DefaultConfig());
      EXPECT_TRUE(pass.ok()) << pass.status();
    }
    EXPECT_TRUE(trainer->ForwardBackwardPreference(Pairs(), {.name = "simpo"}, true).ok());
    return trainer->parameters().grads().clone();
  }
  static std::vector<Datum> Pairs() {
    std::vector<Datum> pairs(2);
    for (size_t i = 0; i < 2; ++i) {
      pairs[i].ids = testing::RandomIds(12 + static_cast<int64_t>(i), i);
      pairs[i].weights.assign(pairs[i].ids.size(), 1.0f);
      pairs[i].weights[0] = 0.0f;
    }
    return pairs;
  }
};

TEST_P(CheckpointTest, GivesTheGradientOfKeptActivationsBitForBit) {
  const at::Tensor kept = Gradient(0);
  EXPECT_TRUE(at::equal(kept, Gradient(1)));
  EXPECT_TRUE(at::equal(kept, Gradient(2)));
}

INSTANTIATE_TEST_SUITE_P(All, CheckpointTest,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16),
                                            ::testing::Bool()));

}  // namespace
}  // namespace rft
