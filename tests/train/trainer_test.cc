// The Training API's verbs: steps, refusals, and what a failure leaves behind.
#include "rft/train/trainer.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/core/file_system.h"
#include "rft/tensor/dispatch.h"
#include "rft/train/trainer_state.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::RandomDatums;

const AdamParams kAdam{.learning_rate = 0.01, .eps = 1e-8};

class TrainerTest : public ::testing::Test {
 protected:
  void Accumulate(const std::vector<Datum>& datums) {
    const auto result = trainer_->ForwardBackward(datums, grpo_);
    ASSERT_TRUE(result.ok()) << result.status();
  }
  void Step(uint64_t seed, const AdamParams& params = kAdam) {
    Accumulate(RandomDatums(4, seed));
    const auto result = trainer_->OptimStep(params);
    ASSERT_TRUE(result.ok() && !result->skipped) << result.status();
  }
  // Everything that a step changes: weights, both moments, the step count.
  std::string State(Trainer& trainer) {
    const std::string dir = dir_ / "state" + std::to_string(++num_states_);
    EXPECT_TRUE(FileSystem::Default().CreateDirs(dir).ok());
    EXPECT_TRUE(trainer.SaveState(dir).ok());
    return *FileSystem::Default().ReadFile(JoinPath(dir, kTrainerStateFile));
  }
  std::string State() { return State(*trainer_); }
  at::Tensor Hidden() {
    return testing::HiddenStates(*model_, *model_->weights(), testing::RandomIds(10, 1));
  }

  const testing::ThreadCount one_thread_{1};
  const LossConfig grpo_ = FindLoss("grpo").DefaultConfig();
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(testing::Family::kQwen3, at::kFloat);
  std::unique_ptr<Trainer> trainer_ = *Trainer::Create(model_, {.token_budget = 200});
  testing::TempDir dir_;
  int num_states_ = 0;
};

// Ten steps against AdamW in double, fed with the gradients that the trainer accumulated.
TEST_F(TrainerTest, StepsAsAdamWInDoubleWithClippingAndDecay) {
  const AdamParams params{.learning_rate = 0.01,
                          .beta1 = 0.9,
                          .beta2 = 0.95,
                          .eps = 1e-8,
                          .weight_decay = 0.1,
                          .grad_clip_norm = 0.5};
  const int64_t n = model_->parameters().values().numel();
  const float* start = Data<float>(model_->parameters().values());
  std::vector<double> w(start, start + n), m(n, 0.0), v(n, 0.0);
  for (int t = 1; t <= 10; ++t) {
    LossConfig loss = FindLoss("cross-entropy").DefaultConfig();
    const auto pass = trainer_->ForwardBackward(RandomDatums(4, t), loss);
    ASSERT_TRUE(pass.ok()) << pass.status();
    const at::Tensor g =
        model_->parameters().grads().to(at::kDouble) / static_cast<double>(pass->num_tokens);
    const double norm = g.norm().item<double>(), clip = norm > 0.5 ? 0.5 / (norm + 1e-6) : 1.0;
    const auto step = trainer_->OptimStep(params);
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_NEAR(step->grad_norm, norm, 1e-5 * norm);
    EXPECT_GT(norm, 0.5);  // or clipping is not tested
    for (int64_t i = 0; i < n; ++i) {
      const double gi = Data<double>(g)[i] * clip;
      m[i] = 0.9 * m[i] + 0.1 * gi;
      v[i] = 0.95 * v[i] + 0.05 * gi * gi;
      w[i] -= 0.01 * 0.1 * w[i];
      w[i] -= 0.01 * (m[i] / (1.0 - std::pow(0.9, t))) /
              (std::sqrt(v[i] / (1.0 - std::pow(0.95, t))) + 1e-8);
    }
  }
  double worst = 0.0;
  for (int64_t i = 0; i < n; ++i)
    worst = std::max(worst, std::abs(w[i] - Data<float>(model_->parameters().values())[i]));
  EXPECT_LT(worst, 2e-5);
  EXPECT_EQ(trainer_->num_steps(), 10);
}

TEST_F(TrainerTest, MakesANewVersionThatForwardsUse) {
  const at::Tensor before = Hidden();
  Step(1);
  EXPECT_EQ(model_->weights()->version(), 2);
  EXPECT_EQ((*trainer_->SaveWeightsForSampler())->version(), 2);
  EXPECT_FALSE(at::equal(Hidden(), before));
}

TEST_F(TrainerTest, LeavesAHeldVersionAsItWas) {
  const auto held = model_->weights();
  const std::vector<TokenId> ids = testing::RandomIds(10, 1);
  const at::Tensor before = testing::HiddenStates(*model_, *held, ids);
  for (uint64_t seed = 1; seed <= 3; ++seed) Step(seed);
  EXPECT_TRUE(at::equal(testing::HiddenStates(*model_, *held, ids), before));
}

// With no version to write over, the step is done before the weights are packed; otherwise on the way.
TEST_F(TrainerTest, StepsAlikeOverAnOldVersionAndBesideOnesThatAreHeld) {
  for (const char* kind : {"adamw", "sgd", "muon"})
    for (const auto family :
         {testing::Family::kLlama, testing::Family::kQwen3, testing::Family::kQwen3Moe}) {
      std::vector<std::string> states;
      for (const bool hold : {false, true}) {
        auto trainer = *Trainer::Create(testing::MakeTinyModel(family, at::kBFloat16),
                                        {.optimizer = {.kind = kind, .decay_vectors = false}});
        std::vector<std::shared_ptr<const PublishedWeights>> held;
        for (int i = 0; i < 3; ++i) {
          if (hold) held.push_back(*trainer->SaveWeightsForSampler());
          ASSERT_TRUE(trainer->ForwardBackward(RandomDatums(3, i), grpo_).ok());
          const auto step = trainer->OptimStep({.learning_rate = 0.01, .weight_decay = 0.1});
          ASSERT_TRUE(step.ok()) << step.status();
        }
        states.push_back(State(*trainer));
      }
      EXPECT_TRUE(states[0] == states[1]) << kind;
    }
}

TEST_F(TrainerTest, ReducesTheLossItTrainsOn) {
  const std::vector<Datum> datums = RandomDatums(3, 1);
  const LossConfig loss = FindLoss("cross-entropy").DefaultConfig();
  std::vector<double> losses;
  for (int i = 0; i < 15; ++i) {
    const auto pass = trainer_->ForwardBackward(datums, loss);
    ASSERT_TRUE(pass.ok()) << pass.status();
    losses.push_back(pass->loss_sum / static_cast<double>(pass->num_tokens));
    ASSERT_TRUE(trainer_->OptimStep(kAdam).ok());
  }
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

TEST_F(TrainerTest, RefusesAStepWithoutGradient) {
  EXPECT_EQ(trainer_->OptimStep(kAdam).status().code(), absl::StatusCode::kFailedPrecondition);
  Step(1);
  EXPECT_EQ(trainer_->OptimStep(kAdam).status().code(), absl::StatusCode::kFailedPrecondition);
  Accumulate(RandomDatums(2, 1));
  trainer_->ZeroGrad();
  EXPECT_EQ(trainer_->OptimStep(kAdam).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(TrainerTest, RefusesAStepThatWouldSpoilTheWeights) {
  Step(1);
  Accumulate(RandomDatums(2, 1));
  const std::string before = State();
  const std::pair<AdamParams, const char*> cases[] = {
      {{.learning_rate = NAN}, "learning_rate: must be finite and at least 0, got nan"},
      {{.learning_rate = -1.0}, "learning_rate"},
      {{.beta1 = 1.0}, "beta1: must be in [0, 1), got 1"},
      {{.beta2 = -0.1}, "beta2"},
      {{.eps = 0.0}, "eps: must be finite and above 0"},
      {{.weight_decay = INFINITY}, "weight_decay"},
      {{.grad_clip_norm = NAN}, "grad_clip_norm"}};
  for (const auto& [params, words] : cases) {
    const absl::Status status = trainer_->OptimStep(params).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  EXPECT_TRUE(State() == before);
  EXPECT_TRUE(trainer_->OptimStep(kAdam).ok());  // the gradient is still there
}

TEST_F(TrainerTest, RefusesToLearnFromNothing) {
  const auto nothing = trainer_->ForwardBackward({}, grpo_);
  EXPECT_EQ(nothing.status(), absl::InvalidArgumentError("datums: is empty"));
  EXPECT_EQ(trainer_->OptimStep(kAdam).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(trainer_->Forward({})->logprobs.empty());
}

TEST_F(TrainerTest, SkipsAStepThatSawNaN) {
  Step(1);
  const std::string before = State();
  std::vector<Datum> datums = RandomDatums(4, 2);
  datums[1].advantages.back() = NAN;
  datums[1].weights.back() = 1.0f;
  const auto pass = trainer_->ForwardBackward(datums, grpo_);
  ASSERT_TRUE(pass.ok()) << pass.status();
  EXPECT_FALSE(pass->finite);
  EXPECT_EQ(pass->not_finite_datum, 1);
  EXPECT_EQ(pass->not_finite,
            absl::StrCat("advantages[", datums[1].advantages.size() - 1, "] is nan"));
  Accumulate(RandomDatums(4, 3));  // a good call does not heal the step
  const auto step = trainer_->OptimStep(kAdam);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_TRUE(step->skipped);
  EXPECT_EQ(step->version, 2);
  EXPECT_TRUE(State() == before);
  Step(4);  // and the next one is as good as new
  EXPECT_FALSE(State() == before);
}

TEST_F(TrainerTest, SkipsAStepOfInfiniteWeights) {
  Step(1);
  model_->parameters().Find("model.norm.weight")->value[3] = INFINITY;
  model_->PackNewVersion();
  auto trainer = *Trainer::Create(model_, {});
  const std::string before = State(*trainer);
  const auto pass = trainer->ForwardBackward(RandomDatums(2, 1), grpo_);
  ASSERT_TRUE(pass.ok()) << pass.status();
  EXPECT_TRUE(trainer->OptimStep(kAdam)->skipped);
  EXPECT_TRUE(State(*trainer) == before);
}

TEST_F(TrainerTest, ChangesNothingOnABadDatum) {
  Accumulate(RandomDatums(4, 1));
  const at::Tensor gradient = model_->parameters().grads().clone();
  std::vector<Datum> bad = RandomDatums(4, 2), without_advantages = bad;
  bad[2].ids[0] = 258;
  without_advantages[1].advantages.clear();
  LossConfig unknown = grpo_;
  unknown.name = "grppo";
  EXPECT_THAT(std::string(trainer_->ForwardBackward(bad, grpo_).status().message()),
              HasSubstr("datums[2]: ids[0]: 258"));
  EXPECT_THAT(std::string(trainer_->Forward(bad).status().message()), HasSubstr("datums[2]"));
  EXPECT_THAT(std::string(trainer_->ForwardBackward(without_advantages, grpo_).status().message()),
              HasSubstr("datums[1].advantages: loss grpo needs them"));
  EXPECT_THAT(
      std::string(trainer_->ForwardBackward(RandomDatums(1, 1), unknown).status().message()),
      HasSubstr("grppo"));
  EXPECT_TRUE(at::equal(model_->parameters().grads(), gradient));
  EXPECT_TRUE(trainer_->OptimStep(kAdam).ok());
}

TEST_F(TrainerTest, ComputesACustomLossAsTheBuiltInOne) {
  const std::vector<Datum> datums = RandomDatums(5, 1);
  const auto builtin = trainer_->ForwardBackward(datums, FindLoss("cross-entropy").DefaultConfig());
  ASSERT_TRUE(builtin.ok()) << builtin.status();
  const at::Tensor gradient = model_->parameters().grads().clone();
  ASSERT_TRUE(trainer_->OptimStep({.learning_rate = 0.0}).ok());
  const auto custom = trainer_->ForwardBackwardCustom(datums, [&](const auto& logprobs) {
    CustomLossResult result{.denominator = 0.0, .metrics = {{"mine", 3.0}}};
    for (size_t i = 0; i < logprobs.size(); ++i) {
      result.dlogprobs.emplace_back(logprobs[i].size(), 0.0f);
      for (size_t t = 0; t < logprobs[i].size(); ++t) {
        result.loss_sum -= datums[i].weights[t] * logprobs[i][t];
        result.dlogprobs[i][t] = -datums[i].weights[t];
        result.denominator += datums[i].weights[t];
      }
    }
    return absl::StatusOr<CustomLossResult>(result);
  });
  ASSERT_TRUE(custom.ok()) << custom.status();
  EXPECT_NEAR(custom->loss_sum, builtin->loss_sum, 1e-4);
  EXPECT_EQ(custom->logprobs, builtin->logprobs);
  EXPECT_EQ(custom->num_tokens, builtin->num_tokens);
  EXPECT_EQ(custom->metrics.at("mine"), 3.0);
  EXPECT_TRUE(at::equal(model_->parameters().grads(), gradient));
}

TEST_F(TrainerTest, RefusesACustomLossOfTheWrongShape) {
  const std::vector<Datum> datums = RandomDatums(3, 1);
  auto run = [&](std::function<void(CustomLossResult&)> change) {
    return trainer_
        ->ForwardBackwardCustom(datums,
                                [&](const auto& logprobs) {
                                  CustomLossResult result{.dlogprobs = logprobs};
                                  change(result);
                                  return absl::StatusOr<CustomLossResult>(result);
                                })
        .status();
  };
  EXPECT_EQ(run([](auto& r) { r.dlogprobs.pop_back(); }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(run([](auto& r) { r.dlogprobs[1].pop_back(); }).message()),
              HasSubstr("dlogprobs[1]"));
  EXPECT_EQ(
      trainer_
          ->ForwardBackwardCustom(datums, [](const auto&) { return absl::AbortedError("mine"); })
          .status(),
      absl::AbortedError("mine"));
  EXPECT_EQ(trainer_->OptimStep(kAdam).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(TrainerTest, SkipsAStepOfACustomLossThatIsNotFinite) {
  std::vector<Datum> datums = RandomDatums(3, 1);
  datums[0].weights.back() = 1.0f;
  const std::string before = State();
  for (bool in_sum : {true, false}) {
    const auto pass = trainer_->ForwardBackwardCustom(datums, [&](const auto& logprobs) {
      CustomLossResult result{.loss_sum = in_sum ? NAN : 1.0, .dlogprobs = logprobs};
      if (!in_sum) result.dlogprobs[0].back() = NAN;
      return absl::StatusOr<CustomLossResult>(result);
    });
    ASSERT_TRUE(pass.ok()) << pass.status();
    EXPECT_FALSE(pass->finite);
    EXPECT_TRUE(trainer_->OptimStep(kAdam)->skipped);
    EXPECT_TRUE(State() == before);
  }
}

TEST_F(TrainerTest, RefusesToTrainWhatAnotherTrainerTrains) {
  const auto other = *Trainer::Create(model_, {});
  const std::vector<Datum> datums = RandomDatums(2, 1);
  Accumulate(datums);
  const auto refused = [&](Trainer& trainer, const char* words) {
    const absl::Status status = trainer.ForwardBackward(datums, grpo_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  };
  refused(*other, "another trainer's gradient is in use");
  trainer_->ZeroGrad();
  ASSERT_TRUE(other->ForwardBackward(datums, grpo_).ok());
  refused(*trainer_, "another trainer's gradient is in use");
  ASSERT_TRUE(other->OptimStep(kAdam).ok());
  refused(*trainer_, "somebody else has changed these weights");
  EXPECT_TRUE(trainer_->Forward(datums).ok());  // of the version it knows
}

TEST_F(TrainerTest, LeavesNoGradientBehind) {
  {
    const auto other = *Trainer::Create(model_, {});
    ASSERT_TRUE(other->ForwardBackward(RandomDatums(2, 1), grpo_).ok());
  }
  EXPECT_EQ(model_->parameters().grads().abs().max().item<float>(), 0.0f);
  Step(1);
}

TEST_F(TrainerTest, FollowsAnotherAsAnExponentialMovingAverage) {
  const auto average_model = testing::MakeTinyModel(testing::Family::kQwen3, at::kFloat);
  const auto average = *Trainer::Create(average_model, {});
  at::Tensor expected = model_->parameters().values().to(at::kDouble);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Step(seed);
    expected = expected * 0.9 + model_->parameters().values().to(at::kDouble) * 0.1;
    ASSERT_TRUE(average->Follow(*trainer_, 0.9).ok());
  }
  const at::Tensor difference = average_model->parameters().values().to(at::kDouble) - expected;
  EXPECT_LT(difference.abs().max().item<double>(), 1e-6);
  const std::vector<Datum> datums = RandomDatums(2, 5);
  EXPECT_NE(average->Forward(datums)->logprobs, trainer_->Forward(datums)->logprobs);
  ASSERT_TRUE(average->Follow(*trainer_, 0.0).ok());
  EXPECT_EQ(average->Forward(datums)->logprobs, trainer_->Forward(datums)->logprobs);
}

TEST_F(TrainerTest, GoesOnFromASavedStateBitForBit) {
  for (uint64_t seed = 1; seed <= 3; ++seed) Step(seed);
  const std::string saved = dir_ / "saved";
  ASSERT_TRUE(FileSystem::Default().CreateDirs(saved).ok());
  ASSERT_TRUE(trainer_->SaveState(saved).ok());
  for (uint64_t seed = 4; seed <= 6; ++seed) Step(seed);
  const std::string straight = State();
  model_ = testing::MakeTinyModel(testing::Family::kQwen3, at::kFloat, 99);  // other weights
  trainer_ = *Trainer::Create(model_, {.token_budget = 200});
  ASSERT_TRUE(trainer_->LoadState(saved).ok());
  EXPECT_EQ(trainer_->num_steps(), 3);
  for (uint64_t seed = 4; seed <= 6; ++seed) Step(seed);
  EXPECT_TRUE(State() == straight);
}

TEST_F(TrainerTest, ChangesNothingWhenAStateIsDamaged) {
  Step(1);
  FileSystem& fs = FileSystem::Default();
  const std::string before = State(), good = before;
  const at::Tensor hidden = Hidden();
  const std::string dir = dir_ / "damaged", file = JoinPath(dir, kTrainerStateFile);
  ASSERT_TRUE(fs.CreateDirs(dir).ok());
  EXPECT_FALSE(trainer_->LoadState(dir).ok());  // nothing there
  std::string renamed = good, stepless = good;
  renamed.replace(renamed.find("adam_v.model.norm.weight"), 6, "adam_x");
  stepless.replace(stepless.find("\"step\""), 6, "\"stop\"");
  for (const std::string& bytes : {good.substr(0, good.size() - 1), good.substr(0, 100),
                                   std::string("no safetensors"), renamed, stepless}) {
    ASSERT_TRUE(WriteFile(fs, file, bytes).ok());
    const absl::Status status = trainer_->LoadState(dir);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
    EXPECT_TRUE(State() == before);
    EXPECT_TRUE(at::equal(Hidden(), hidden));
  }
}

TEST_F(TrainerTest, RefusesTheStateOfAnotherModel) {
  auto other = testing::MakeTinyModel(testing::Family::kLlama, at::kFloat);
  const std::string dir = dir_ / "llama", before = State();
  ASSERT_TRUE(FileSystem::Default().CreateDirs(dir).ok());
  ASSERT_TRUE((*Trainer::Create(other, {}))->SaveState(dir).ok());
  EXPECT_EQ(trainer_->LoadState(dir).code(),
            absl::StatusCode::kInvalidArgument);  // it has no q_norm
  EXPECT_TRUE(State() == before);
}

TEST_F(TrainerTest, SavesAModelThatLoads) {
  Step(1);
  ASSERT_TRUE(trainer_->SaveModel(dir_ / "model").ok());
  const auto loaded = LoadModel(dir_ / "model", at::kFloat);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(at::equal((*loaded)->parameters().values(),
                        model_->parameters().values().to(at::kBFloat16).to(at::kFloat)));
}

TEST_F(TrainerTest, RefusesOptionsItCannotTrainWith) {
  EXPECT_EQ(Trainer::Create(model_, {.token_budget = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Trainer::Create(model_, {.temperature = 0.0}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rft
