// The gradient and the log-probabilities of a call do not depend on how its datums are packed; the gradient is that of the
// whole model.
#include <algorithm>
#include <cmath>
#include <cstring>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "rft/train/trainer.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/gradient_check.h"
#include "tests/tensor/thread_count.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using testing::RandomDatums;

struct Pass {
  at::Tensor gradient;
  ForwardBackwardResult result;
};

class TrainerGradientTest : public ::testing::TestWithParam<Family> {
 protected:
  Pass Run(const std::vector<Datum>& datums, int64_t token_budget, const char* loss = "grpo",
           double temperature = 1.0) {
    auto trainer =
        Trainer::Create(model_, {.token_budget = token_budget, .temperature = temperature});
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    (*trainer)->ZeroGrad();
    auto result = (*trainer)->ForwardBackward(datums, FindLoss(loss).DefaultConfig());
    EXPECT_TRUE(result.ok()) << result.status();
    return {model_->parameters().grads().clone(), *std::move(result)};
  }
  static double Difference(const at::Tensor& a, const at::Tensor& b) {
    return (a - b).norm().item<double>() / b.norm().item<double>();
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(GetParam(), at::kFloat);
};

TEST_P(TrainerGradientTest, DoesNotDependOnMicroBatches) {
  const std::vector<Datum> datums = RandomDatums(10, 1);
  const Pass whole = Run(datums, 4096);
  for (int64_t budget : {16, 37, 100, 256, 500}) {
    const Pass split = Run(datums, budget);
    EXPECT_LT(Difference(split.gradient, whole.gradient), 1e-6) << budget;
    EXPECT_EQ(split.result.logprobs, whole.result.logprobs) << budget;
    EXPECT_NEAR(split.result.loss_sum, whole.result.loss_sum, 1e-5) << budget;
    EXPECT_EQ(split.result.num_tokens, whole.result.num_tokens);
  }
}

TEST_P(TrainerGradientTest, DoesNotDependOnTheOrderOfDatums) {
  const std::vector<Datum> datums = RandomDatums(10, 2);
  const Pass ordered = Run(datums, 200);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    std::vector<size_t> order(datums.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (size_t i = order.size(); i-- > 1;)
      std::swap(order[i], order[testing::RandomInt(0, i, seed, i)]);
    std::vector<Datum> shuffled;
    for (size_t i : order) shuffled.push_back(datums[i]);
    const Pass pass = Run(shuffled, 200);
    EXPECT_LT(Difference(pass.gradient, ordered.gradient), 1e-6);
    for (size_t i = 0; i < order.size(); ++i)
      EXPECT_EQ(pass.result.logprobs[i], ordered.result.logprobs[order[i]]);
  }
}

TEST_P(TrainerGradientTest, DoesNotDependOnSharedPrefixes) {
  const std::vector<Datum> datums = RandomDatums(10, 3);
  const Pass shared = Run(datums, 300), unshared = Run(testing::WithoutPrefixes(datums), 300);
  EXPECT_LT(Difference(shared.gradient, unshared.gradient), 1e-6);
  EXPECT_EQ(shared.result.logprobs, unshared.result.logprobs);
  EXPECT_LT(shared.result.num_computed_tokens, unshared.result.num_computed_tokens);
}

TEST_P(TrainerGradientTest, DoesNotDependOnThreads) {
  const std::vector<Datum> datums = RandomDatums(2, 6);
  const Pass one = Run(datums, 300);
  SetNumThreads(2);
  const Pass two = Run(datums, 300);
  EXPECT_TRUE(at::equal(one.gradient, two.gradient));
  EXPECT_EQ(one.result.logprobs, two.result.logprobs);
}

TEST_P(TrainerGradientTest, AddsUpOverCalls) {
  const std::vector<Datum> datums = RandomDatums(8, 4);
  const Pass whole = Run(datums, 4096);
  auto trainer = *Trainer::Create(model_, {});
  trainer->ZeroGrad();
  const absl::Span<const Datum> all(datums);
  const LossConfig config = FindLoss("grpo").DefaultConfig();
  ASSERT_TRUE(trainer->ForwardBackward(all.subspan(0, 3), config).ok());
  ASSERT_TRUE(trainer->ForwardBackward(all.subspan(3), config).ok());
  EXPECT_LT(Difference(model_->parameters().grads(), whole.gradient), 1e-6);
}

TEST_P(TrainerGradientTest, ForwardGivesTheLogprobsOfForwardBackward) {
  const std::vector<Datum> datums = RandomDatums(6, 5);
  const Pass pass = Run(datums, 100);
  const auto forward = (*Trainer::Create(model_, {}))->Forward(datums);
  ASSERT_TRUE(forward.ok()) << forward.status();
  EXPECT_EQ(forward->logprobs, pass.result.logprobs);
}

// Central differences of -sum log p(token) over the whole model, in a few elements of every parameter.
TEST_P(TrainerGradientTest, IsTheDerivativeOfTheWholeModel) {
  constexpr double kTemperature = 0.8;
  constexpr float kStep = 2e-3f;
  Datum d;
  d.ids = testing::RandomIds(24, 6);
  d.weights.assign(24, 1.0f);
  d.weights[0] = 0.0f;
  const at::Tensor gradient = Run({d}, 100, "cross-entropy", kTemperature).gradient;
  auto loss = [&] {
    at::NoGradGuard no_grad;
    const auto weights = model_->PackNewVersion();
    const at::Tensor hidden = testing::HiddenStates(*model_, *weights, d.ids);
    const at::Tensor targets =
        at::tensor(std::vector<int64_t>(d.ids.begin() + 1, d.ids.end()), at::kLong);
    return -ops::TokenLogprobs(hidden.narrow(0, 0, 23).contiguous(), weights->head, targets,
                               kTemperature)
                .sum(at::kDouble)
                .item<double>();
  };
  uint64_t n = 0;
  for (const Parameter& p : model_->parameters().all()) {
    // Where the gradient is largest, and two random places.
    const int64_t largest = p.grad.abs().argmax().item<int64_t>(), last = p.value.numel() - 1;
    for (int64_t i :
         {largest, testing::RandomInt(0, last, 1, ++n), testing::RandomInt(0, last, 1, ++n)}) {
      const double difference = testing::CentralDifference(Data<float>(p.value)[i], kStep, loss);
      const double actual = Data<float>(gradient)[model_->parameters().OffsetOf(p) + i];
      EXPECT_NEAR(actual, difference, 0.02 * std::max(1.0, std::abs(difference)))
          << p.name << " [" << i << "]";
    }
  }
}

// A loss that couples the rows: -log sigmoid(0.1 (sum of row 0 - sum of row 1)) + (mean of row 2)^2.
CustomLossResult CoupledLoss(const std::vector<std::vector<float>>& logprobs) {
  CustomLossResult result;
  double sums[3] = {};
  for (int i = 0; i < 3; ++i)
    for (const float lp : logprobs[i]) sums[i] += lp;
  const double margin = 0.1 * (sums[0] - sums[1]), off = 1.0 / (1.0 + std::exp(margin));
  const double n = static_cast<double>(logprobs[2].size() - 1);
  result.loss_sum = std::log1p(std::exp(-margin)) + sums[2] / n * (sums[2] / n);
  const double slopes[3] = {-0.1 * off, 0.1 * off, 2.0 * sums[2] / (n * n)};
  for (int i = 0; i < 3; ++i)
    result.dlogprobs.emplace_back(logprobs[i].size(), static_cast<float>(slopes[i]));
  return result;
}

// Its central differences over the whole model, where the gradient of each parameter is largest.
TEST_P(TrainerGradientTest, OfACustomLossIsItsDerivativeThroughTheWholeModel) {
  constexpr float kStep = 2e-3f;
  std::vector<Datum> datums(3);
  for (size_t i = 0; i < datums.size(); ++i) {
    datums[i].ids = testing::RandomIds(9 + 4 * i, i + 1);
    datums[i].weights.assign(datums[i].ids.size(), 1.0f);
    datums[i].weights[0] = 0.0f;
  }
  const auto trainer = *Trainer::Create(model_, {.token_budget = 16});
  const auto pass = trainer->ForwardBackwardCustom(
      datums, [](const auto& logprobs) { return CoupledLoss(logprobs); });
  ASSERT_TRUE(pass.ok()) << pass.status();
  const auto loss = [&] {
    model_->PackNewVersion();
    return CoupledLoss((*Trainer::Create(model_, {}))->Forward(datums)->logprobs).loss_sum;
  };
  for (const Parameter& p : model_->parameters().all()) {
    const int64_t i = p.grad.abs().argmax().item<int64_t>();
    const double difference = testing::CentralDifference(Data<float>(p.value)[i], kStep, loss);
    EXPECT_NEAR(Data<float>(p.grad)[i], difference, 0.02 * std::abs(difference) + 5e-3)
        << p.name << " [" << i << "]";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TrainerGradientTest,
                         ::testing::Values(Family::kLlama, Family::kQwen3), [](const auto& info) {
                           return info.param == Family::kLlama ? "Llama" : "Qwen3";
                         });

}  // namespace
}  // namespace rft
