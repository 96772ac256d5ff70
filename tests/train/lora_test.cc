// Adapters: what a step changes, that the sampler's log-probabilities are the trainer's, and that clients don't touch each other.
#include "rft/models/lora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/core/file_system.h"
#include "rft/tensor/dispatch.h"
#include "rft/train/trainer.h"
#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using ::testing::HasSubstr;
using testing::RandomDatums;

const AdamParams kAdam{.learning_rate = 0.02, .eps = 1e-8};
const LossConfig kCrossEntropy = FindLoss("cross-entropy").DefaultConfig();

class LoraTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  std::shared_ptr<LoraAdapter> Adapter(LoraConfig config = {.rank = 4, .alpha = 8.0}) {
    auto adapter = LoraAdapter::Create(model_, config);
    EXPECT_TRUE(adapter.ok()) << adapter.status();
    return *adapter;
  }
  std::unique_ptr<Trainer> TrainerOf(std::shared_ptr<LoraAdapter> adapter, int64_t budget = 500) {
    return *Trainer::Create(model_, {.token_budget = budget, .adapter = std::move(adapter)});
  }
  void Train(Trainer& trainer, int steps, uint64_t seed) {
    for (int i = 0; i < steps; ++i) {
      ASSERT_TRUE(trainer.ForwardBackward(RandomDatums(3, seed + i), kCrossEntropy).ok());
      ASSERT_TRUE(trainer.OptimStep(kAdam).ok());
    }
  }
  at::Tensor Hidden(const ModelWeights& weights) {
    return testing::HiddenStates(*model_, weights, testing::RandomIds(20, 9));
  }

  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(Family::kQwen3, GetParam());
  testing::TempDir dir_;
};

TEST_P(LoraTest, StartsAsNoChange) {
  EXPECT_TRUE(at::equal(Hidden(*Adapter()->weights()), Hidden(*model_->weights())));
}

TEST_P(LoraTest, TrainsTheAdapterAndLeavesTheBaseAsItWas) {
  const at::Tensor before = model_->parameters().values().clone(),
                   hidden = Hidden(*model_->weights());
  auto adapter = Adapter();
  auto trainer = TrainerOf(adapter);
  const std::vector<Datum> datums = RandomDatums(3, 1);
  std::vector<double> losses;
  for (int i = 0; i < 12; ++i) {
    const auto pass = trainer->ForwardBackward(datums, kCrossEntropy);
    ASSERT_TRUE(pass.ok()) << pass.status();
    losses.push_back(pass->loss_sum);
    ASSERT_TRUE(trainer->OptimStep(kAdam).ok());
  }
  EXPECT_LT(losses.back(), 0.8 * losses.front());
  EXPECT_TRUE(at::equal(model_->parameters().values(), before));
  EXPECT_TRUE(at::equal(Hidden(*model_->weights()), hidden));
  EXPECT_FALSE(model_->parameters().grads().defined());
}

// A mixed batch: every request's log-probabilities are those of a trainer of its adapter, to the bit.
TEST_P(LoraTest, ServesSteppedAdaptersInOneBatchWithTheTrainersBits) {
  auto engine = testing::StartEngine(model_, {.max_batch = 8, .max_batch_tokens = 24});
  std::vector<std::unique_ptr<Trainer>> trainers;
  trainers.push_back(*Trainer::Create(model_, {}));
  for (const LoraConfig& config :
       {LoraConfig{.rank = 4, .alpha = 8.0},
        LoraConfig{.rank = 3, .alpha = 6.0, .targets = {"mlp"}},
        LoraConfig{.rank = 1, .alpha = 2.0, .targets = {"q_proj", "v_proj"}, .rslora = true},
        LoraConfig{.rank = 3, .alpha = 3.0, .targets = {"embed_tokens", "lm_head", "o_proj"}},
        LoraConfig{.rank = 2, .alpha = 4.0, .targets = {"lm_head"}}})
    trainers.push_back(TrainerOf(Adapter(config)));
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 1; i < trainers.size(); ++i) {
      Train(*trainers[i], 2, 10 * i);
      ASSERT_TRUE(
          engine->PublishAdapter(std::to_string(i), *trainers[i]->SaveWeightsForSampler()).ok());
    }
    std::vector<GenerateRequest> requests = testing::RaggedRequests(16, 5 + round);
    const size_t n = trainers.size();
    for (size_t r = 0; r < requests.size(); ++r)
      requests[r].adapter = r % n == 0 ? "" : std::to_string(r % n);
    const auto completions = GenerateAll(*engine, requests, 60.0);
    ASSERT_TRUE(completions.ok()) << completions.status();
    int64_t compared = 0, different = 0;
    for (size_t r = 0; r < requests.size(); ++r)
      for (const Completion& c : (*completions)[r]) {
        Datum d;
        d.ids = requests[r].prompt;
        d.weights.assign(d.ids.size(), 0.0f);
        d.ids.insert(d.ids.end(), c.ids.begin(), c.ids.end());
        d.weights.resize(d.ids.size(), 1.0f);
        const auto forward = trainers[r % n]->Forward({d});
        ASSERT_TRUE(forward.ok()) << forward.status();
        for (size_t t = 0; t < c.ids.size(); ++t, ++compared)
          different += c.logprobs[t] != forward->logprobs[0][requests[r].prompt.size() + t];
      }
    EXPECT_EQ(different, 0);  // NaN differs from everything
    EXPECT_GT(compared, 100);
  }
}

TEST_P(LoraTest, RefusesARequestForAnAdapterItDoesNotHave) {
  auto engine = testing::StartEngine(model_, {});
  GenerateRequest request;
  request.prompt = {1, 2};
  request.adapter = "poet";
  EXPECT_THAT(std::string(GenerateAll(*engine, {request}, 10.0).status().message()),
              HasSubstr("'poet'"));
}

TEST_P(LoraTest, ComesBackFromItsFolderBitForBit) {
  auto adapter = Adapter({.rank = 4,
                          .alpha = 3.0,
                          .targets = {"attention", "down_proj", "embed_tokens", "lm_head"},
                          .rslora = true});
  auto trainer = TrainerOf(adapter);
  Train(*trainer, 3, 1);
  ASSERT_TRUE(adapter->Save(dir_ / "a").ok());
  const auto loaded = LoraAdapter::Load(model_, dir_ / "a");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(TrainerOf(*loaded)->Forward(RandomDatums(3, 9))->logprobs,
            trainer->Forward(RandomDatums(3, 9))->logprobs);
}

TEST_P(LoraTest, MergesIntoAFolderThatGivesTheSameHiddenStates) {
  auto adapter = Adapter();
  Train(*TrainerOf(adapter), 3, 1);
  ASSERT_TRUE(adapter->SaveMerged(dir_ / "m", SaveDtype::kFloat32).ok());
  const auto merged = LoadModel(dir_ / "m", GetParam());
  ASSERT_TRUE(merged.ok()) << merged.status();
  const at::Tensor got = testing::HiddenStates(**merged, *(*merged)->weights(),
                                               testing::RandomIds(20, 9))
                             .to(at::kFloat),
                   want = Hidden(*adapter->weights()).to(at::kFloat),
                   base = Hidden(*model_->weights()).to(at::kFloat);
  const double tolerance = GetParam() == at::kFloat ? 2e-5 : 0.1;
  EXPECT_LT((got - want).abs().max().item<double>(), tolerance);
  EXPECT_GT((base - want).abs().max().item<double>(), 0.2);
}

TEST_P(LoraTest, DropoutDependsOnTheStepOnlyAndNotOnThePacking) {
  std::vector<at::Tensor> gradients;
  for (int64_t budget : {40, 5000}) {
    auto adapter = Adapter(
        {.rank = 4, .alpha = 8.0, .dropout = 0.3, .targets = {"all", "embed_tokens", "lm_head"}});
    auto trainer = TrainerOf(adapter, budget);
    Train(*trainer, 1, 1);
    const auto pass = trainer->ForwardBackward(RandomDatums(3, 2), kCrossEntropy);
    ASSERT_TRUE(pass.ok()) << pass.status();
    const auto plain = trainer->Forward(RandomDatums(3, 2));
    EXPECT_NE(pass->logprobs, plain->logprobs);
    gradients.push_back(adapter->parameters().grads().clone());
  }
  const double scale = gradients[0].abs().max().item<double>();
  EXPECT_LT((gradients[0] - gradients[1]).abs().max().item<double>(),
            (GetParam() == at::kFloat ? 1e-5 : 3e-2) * scale);
}

// d loss / d parameter by central differences, dropout and an odd rank included.
TEST_P(LoraTest, HasTheGradientOfFiniteDifferences) {
  if (GetParam() != at::kFloat) return;  // differences need fp32
  auto adapter = Adapter(
      {.rank = 3, .alpha = 6.0, .dropout = 0.2, .targets = {"all", "embed_tokens", "lm_head"}});
  auto trainer = TrainerOf(adapter);
  Train(*trainer, 2, 1);
  const std::vector<Datum> datums = RandomDatums(2, 3);
  ASSERT_TRUE(trainer->ForwardBackward(datums, kCrossEntropy).ok());
  const at::Tensor gradient = adapter->parameters().grads().clone();
  trainer->ZeroGrad();
  float* values = Data<float>(adapter->parameters().values());
  const std::string state = dir_.path();
  ASSERT_TRUE(trainer->SaveState(state).ok());
  int checked = 0;
  for (const Parameter& p : adapter->parameters().all()) {
    const int64_t at = adapter->parameters().OffsetOf(p) + p.value.numel() / 2;
    const float analytic = Data<float>(gradient)[at], original = values[at];
    double sums[2];
    const float h = 4e-3f;
    for (int side = 0; side < 2; ++side) {
      ASSERT_TRUE(trainer->LoadState(state).ok());
      values[at] = original + (side == 0 ? h : -h);
      auto other = testing::TempDir();
      ASSERT_TRUE(trainer->SaveState(other.path()).ok());
      ASSERT_TRUE(trainer->LoadState(other.path()).ok());  // packs the changed value
      sums[side] = trainer->ForwardBackward(datums, kCrossEntropy)->loss_sum;
      trainer->ZeroGrad();
    }
    const double numeric = (sums[0] - sums[1]) / (2.0 * h);
    EXPECT_NEAR(numeric, analytic, 0.02 * std::abs(analytic) + 0.03) << p.name;
    ++checked;
  }
  EXPECT_EQ(checked, 2 * (2 * 7 + 2));
}

TEST_P(LoraTest, NamesATargetThatDoesNotExist) {
  const auto adapter = LoraAdapter::Create(model_, {.rank = 4, .targets = {"query"}});
  EXPECT_EQ(adapter.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(adapter.status().message()), HasSubstr("no module 'query'"));
  EXPECT_THAT(std::string(adapter.status().message()), HasSubstr("q_proj"));
}

TEST_P(LoraTest, RefusesABaseThatAnotherTrainerTrains) {
  auto full = *Trainer::Create(model_, {});
  ASSERT_TRUE(full->ForwardBackward(RandomDatums(2, 1), kCrossEntropy).ok());
  EXPECT_EQ(
      TrainerOf(Adapter())->ForwardBackward(RandomDatums(2, 1), kCrossEntropy).status().code(),
      absl::StatusCode::kFailedPrecondition);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LoraTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) {
                           return info.param == at::kFloat ? "fp32" : "bf16";
                         });

// Experts multiply many rows in another way than few.
class ExpertAdaptersTest : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(ExpertAdaptersTest, ComputeTheSameInLargeAndSmallBatches) {
  const testing::ThreadCount two(2);
  const auto model = testing::MakeTinyModel(Family::kQwen3Moe, at::kFloat);
  const std::vector<Datum> datums = RandomDatums(40, 1);
  std::vector<std::vector<std::vector<float>>> logprobs;
  std::vector<at::Tensor> gradients;
  for (int64_t budget : {100, 100'000}) {
    auto adapter = *LoraAdapter::Create(model, {.rank = 4, .alpha = 8.0, .targets = GetParam()});
    auto trainer = *Trainer::Create(model, {.token_budget = budget, .adapter = adapter});
    // From now on the adapter changes something.
    ASSERT_TRUE(trainer->ForwardBackward({testing::LongRow(60)}, kCrossEntropy).ok());
    ASSERT_TRUE(trainer->OptimStep(kAdam).ok());
    const auto pass = trainer->ForwardBackward(datums, kCrossEntropy);
    ASSERT_TRUE(pass.ok()) << pass.status();
    EXPECT_GT(pass->num_computed_tokens, 800);  // with 3 experts each: many rows
    logprobs.push_back(pass->logprobs);
    gradients.push_back(adapter->parameters().grads().clone());
  }
  const double scale = gradients[1].abs().max().item<double>();
  EXPECT_GT(scale, 0.0);
  EXPECT_LT((gradients[0] - gradients[1]).abs().max().item<double>(), 1e-4 * scale);
  EXPECT_EQ(logprobs[0], logprobs[1]);
}

INSTANTIATE_TEST_SUITE_P(Targets, ExpertAdaptersTest,
                         ::testing::Values(std::vector<std::string>{"down_proj"},
                                           std::vector<std::string>{"gate_proj", "up_proj"},
                                           std::vector<std::string>{"experts", "attention"}),
                         [](const auto& info) { return info.param[0]; });

// An odd number of rows in a projection: the bf16 kernels read pairs.
TEST(OddRowsTest, TrainInBf16WithTheGradientOfFp32) {
  std::string config = testing::TinyConfig(Family::kLlama);
  for (const auto& [from, to] :
       {std::pair("\"intermediate_size\": 56", "\"intermediate_size\": 54"),
        {"\"vocab_size\": 258", "\"vocab_size\": 259"}}) {
    const size_t at = config.find(from);
    ASSERT_NE(at, std::string::npos);
    config.replace(at, std::string(from).size(), to);
  }
  std::vector<at::Tensor> gradients;
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    auto model = *CreateRandomModel(config, dtype, 1);
    auto trainer = *Trainer::Create(model, {});
    const auto pass = trainer->ForwardBackward(RandomDatums(3, 1), kCrossEntropy);
    ASSERT_TRUE(pass.ok()) << pass.status();
    gradients.push_back(model->parameters().grads().clone());  // cleared when the trainer goes
  }
  EXPECT_LT((gradients[0] - gradients[1]).norm().item<double>(),
            0.03 * gradients[0].norm().item<double>());
}

}  // namespace
}  // namespace rft
