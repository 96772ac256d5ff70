// The router: which experts are chosen, and the gradient of their weights. Equality with transformers: tests/python/test_moe.py.
#include "rft/tensor/router.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "tests/tensor/gradient_check.h"

namespace rft {
namespace {

using testing::CheckGradients;
using testing::RandomTensor;
using Score = RouterConfig::Score;

at::Tensor Row(std::vector<float> logits) {
  const auto n = static_cast<int64_t>(logits.size());
  return at::tensor(logits, at::kFloat).view({1, n});
}
std::vector<int32_t> Chosen(const at::Tensor& experts) {
  return {Data<int32_t>(experts), Data<int32_t>(experts) + experts.numel()};
}

TEST(RouterTest, ChoosesTheLargestLogitsInAscendingOrderOfIds) {
  const RouterConfig c{.num_experts = 5, .top_k = 3};
  EXPECT_EQ(Chosen(ops::ChooseExperts(Row({0.1f, 3.0f, -1.0f, 2.0f, 0.5f}), {}, c)),
            (std::vector<int32_t>{1, 3, 4}));
}

TEST(RouterTest, GivesTiesToTheLowerId) {
  const RouterConfig c{.num_experts = 4, .top_k = 2};
  EXPECT_EQ(Chosen(ops::ChooseExperts(Row({1.0f, 1.0f, 1.0f, 1.0f}), {}, c)),
            (std::vector<int32_t>{0, 1}));
}

TEST(RouterTest, ChoosesDistinctExpertsEvenWhenLogitsAreNotNumbers) {
  const RouterConfig c{.num_experts = 3, .top_k = 2};
  const auto chosen = Chosen(ops::ChooseExperts(Row({NAN, NAN, NAN}), {}, c));
  EXPECT_NE(chosen[0], chosen[1]);
}

TEST(RouterTest, LetsTheCorrectionBiasChangeTheChoiceOnly) {
  const RouterConfig c{
      .num_experts = 3, .top_k = 1, .score = Score::kSigmoid, .correction_bias = true};
  const at::Tensor logits = Row({2.0f, 0.0f, -2.0f});
  const at::Tensor experts = ops::ChooseExperts(logits, at::tensor({0.0f, 0.0f, 1.0f}), c);
  EXPECT_EQ(Chosen(experts), (std::vector<int32_t>{2}));
  EXPECT_FLOAT_EQ(ops::GateWeights(logits, experts, c).item<float>(),
                  1.0f / (1.0f + std::exp(2.0f)));
}

TEST(RouterTest, ChoosesWithinTheBestGroupsOnly) {
  const RouterConfig c{
      .num_experts = 6, .top_k = 2, .score = Score::kSigmoid, .num_groups = 3, .top_groups = 1};
  // The largest single score is in group 0, the largest sum of two in group 2.
  EXPECT_EQ(Chosen(ops::ChooseExperts(Row({3.0f, -5.0f, 0.0f, 0.0f, 1.0f, 1.5f}), {}, c)),
            (std::vector<int32_t>{4, 5}));
}

TEST(RouterTest, GivesWeightsThatSumToTheScaleWhenRenormalised) {
  const RouterConfig c{.num_experts = 8, .top_k = 3, .renormalize = true, .scale = 2.5};
  const at::Tensor logits = RandomTensor({6, 8}, 1, 2.0);
  const at::Tensor sums = ops::GateWeights(logits, ops::ChooseExperts(logits, {}, c), c).sum(1);
  EXPECT_LT((sums - 2.5).abs().max().item<double>(), 1e-6);
}

TEST(RouterTest, HasTheGradientOfTheWeightsOfGivenExperts) {
  const at::Tensor logits = RandomTensor({4, 6}, 2);
  for (Score score : {Score::kSoftmax, Score::kSigmoid})
    for (bool renormalize : {false, true}) {
      const RouterConfig c{.num_experts = 6,
                           .top_k = 2,
                           .score = score,
                           .renormalize = renormalize,
                           .renormalize_eps = 1e-20,
                           .scale = 1.5};
      const at::Tensor experts = ops::ChooseExperts(RandomTensor({4, 6}, 3), {}, c);
      CheckGradients(logits, [&](const at::Tensor& x) { return ops::GateWeights(x, experts, c); });
    }
}

}  // namespace
}  // namespace rft
