// Master weights and optimizer state in host memory while the model computes on another device.
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "losses/loss.h"
#include "rft/core/file_system.h"
#include "rft/engine/local_engine.h"
#include "rft/models/device.h"
#include "rft/train/trainer.h"
#include "rft/train/trainer_state.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/far_device.h"
#include "tests/tensor/live_bytes.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using testing::OtherDevice;
using testing::RandomDatums;

class OffloadTest : public ::testing::Test {
 protected:
  static std::shared_ptr<CausalLm> Model(bool offload, uint64_t seed = 1,
                                         at::ScalarType dtype = at::kFloat) {
    auto model = testing::MakeTinyModel(Family::kQwen3, dtype, seed);
    model->MoveTo(OtherDevice(), offload);
    return model;
  }
  static std::unique_ptr<Trainer> MakeTrainer(const std::shared_ptr<CausalLm>& model,
                                              const std::string& state = "fp32") {
    return *Trainer::Create(model, {.optimizer = {.state = state}, .sampler = LocalSampler()});
  }
  void Accumulate(Trainer& trainer, uint64_t seed) {
    const auto pass = trainer.ForwardBackward(RandomDatums(4, seed), loss_);
    ASSERT_TRUE(pass.ok()) << pass.status();
    num_tokens_ = static_cast<double>(pass->num_tokens);
  }
  void Step(Trainer& trainer, uint64_t seed) {
    Accumulate(trainer, seed);
    const auto step = trainer.OptimStep({.learning_rate = 0.01, .eps = 1e-3, .weight_decay = 0.1});
    ASSERT_TRUE(step.ok() && !step->skipped) << step.status();
  }
  // Of what is on the device beside rotary tables and `others`.
  static double BytesPerParameter(const testing::LiveBytes& live, const CausalLm& model,
                                  int64_t others = 0) {
    const int64_t tables = 4 * model.config().max_positions * model.config().head_dim;
    return static_cast<double>(live.now() - tables - others) /
           static_cast<double>(model.parameters().num_parameters());
  }
  // Weights, moments, the step count.
  std::string State(Trainer& trainer, const std::string& name) {
    const std::string dir = dir_ / name;
    EXPECT_TRUE(FileSystem::Default().CreateDirs(dir).ok());
    EXPECT_TRUE(trainer.SaveState(dir).ok());
    return *FileSystem::Default().ReadFile(JoinPath(dir, kTrainerStateFile));
  }

  const testing::ThreadCount one_thread_{1};
  const LossConfig loss_ = FindLoss("cross-entropy").DefaultConfig();
  double num_tokens_ = 0.0;
  testing::TempDir dir_;
};

TEST_F(OffloadTest, TenStepsAreThoseOfTorchAndThoseWithoutOffload) {
  const auto model = Model(/*offload=*/true), beside = Model(/*offload=*/false);
  const auto trainer = MakeTrainer(model), other = MakeTrainer(beside);
  at::Tensor oracle = model->parameters().values().clone().requires_grad_(true);
  torch::optim::AdamW adamw(
      {oracle}, torch::optim::AdamWOptions(0.01).betas({0.9, 0.95}).eps(1e-3).weight_decay(0.1));
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Accumulate(*trainer, seed);
    oracle.mutable_grad() = model->parameters().grads().cpu() / num_tokens_;
    adamw.step();
    ASSERT_TRUE(trainer->OptimStep({.learning_rate = 0.01, .eps = 1e-3, .weight_decay = 0.1}).ok());
    Step(*other, seed);
  }
  const at::Tensor& values = model->parameters().values();
  EXPECT_LT((values - oracle.detach()).abs().max().item<double>(), 2e-6);
  EXPECT_LT((values - beside->parameters().values().cpu()).abs().max().item<double>(), 2e-5);
  EXPECT_EQ(trainer->num_steps(), 10);
}

// Per parameter: weights and a gradient; without offload master weights and two moments more, in float32.
TEST_F(OffloadTest, KeepsMasterWeightsAndMomentsInHostMemory) {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const bool offload : {false, true}) {
      const auto live = std::make_shared<testing::LiveBytes>(OtherDevice());
      const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
      const auto model = Model(offload, 1, dtype);
      const auto trainer = MakeTrainer(model);
      Step(*trainer, 1);
      EXPECT_EQ(model->parameters().values().is_cpu(), offload);
      EXPECT_EQ(model->parameters().grads().device(), OtherDevice());
      const double weights = dtype == at::kFloat ? 4.0 : 2.0;
      EXPECT_NEAR(BytesPerParameter(*live, *model), weights + (offload ? 4.0 : 16.0), 0.3);
    }
}

// A frozen base has its weights there and nothing else.
TEST_F(OffloadTest, LeavesAnAdaptersBaseNothingButItsWeights) {
  const auto live = std::make_shared<testing::LiveBytes>(OtherDevice());
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
  const auto model = Model(/*offload=*/true, 1, at::kBFloat16);
  const auto trainer =
      *Trainer::Create(model, {.adapter = *LoraAdapter::Create(model, {.rank = 2})});
  Step(*trainer, 1);
  EXPECT_TRUE(trainer->parameters().values().is_cpu());
  const int64_t adapter = 6 * trainer->parameters().num_parameters();
  EXPECT_NEAR(BytesPerParameter(*live, *model, adapter), 2.0, 0.3);
}

TEST_F(OffloadTest, GoesOnFromASavedStateBitForBitWithEveryKindOfState) {
  for (const char* state : {"fp32", "bf16", "int8"}) {
    const auto trainer = MakeTrainer(Model(true), state);
    for (uint64_t seed = 1; seed <= 3; ++seed) Step(*trainer, seed);
    State(*trainer, "saved");
    for (uint64_t seed = 4; seed <= 6; ++seed) Step(*trainer, seed);
    const auto resumed = MakeTrainer(Model(true, /*seed=*/99), state);  // other weights
    ASSERT_TRUE(resumed->LoadState(dir_ / "saved").ok());
    for (uint64_t seed = 4; seed <= 6; ++seed) Step(*resumed, seed);
    EXPECT_TRUE(State(*resumed, "resumed") == State(*trainer, "straight")) << state;
  }
}

// The offloaded state is an ordinary one: it goes on on the CPU, or on the device without offload.
TEST_F(OffloadTest, ItsStateIsReadWhereverTrainingGoesOn) {
  const auto trainer = MakeTrainer(Model(true));
  for (uint64_t seed = 1; seed <= 3; ++seed) Step(*trainer, seed);
  State(*trainer, "saved");
  Step(*trainer, 4);
  const auto near_model = testing::MakeTinyModel(Family::kQwen3, at::kFloat, 99);
  for (const auto& model : {near_model, Model(false, 99)}) {
    const auto other = MakeTrainer(model);
    ASSERT_TRUE(other->LoadState(dir_ / "saved").ok());
    Step(*other, 4);
    EXPECT_LT((other->parameters().values().cpu() - trainer->parameters().values())
                  .abs()
                  .max()
                  .item<double>(),
              2e-5);
  }
}

TEST_F(OffloadTest, SkipsAStepThatIsNotFiniteAndChangesNothing) {
  const auto trainer = MakeTrainer(Model(true));
  Step(*trainer, 1);
  const std::string before = State(*trainer, "before");
  std::vector<Datum> datums = RandomDatums(4, 2);
  Accumulate(*trainer, 3);
  trainer->parameters().grads().narrow(0, 5, 1).fill_(INFINITY);
  const auto step = trainer->OptimStep({.learning_rate = 0.01});
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_TRUE(step->skipped);
  EXPECT_TRUE(State(*trainer, "after") == before);
  EXPECT_EQ(trainer->parameters().grads().abs().max().item<double>(), 0.0);
}

// The engine's copy has the trainer's own float32 values.
TEST_F(OffloadTest, SharesItsMasterWeightsWithTheCopyThatIsSampledFrom) {
  const auto model = Model(true);
  const auto trainer = MakeTrainer(model);
  GenerateRequest request;
  request.prompt = testing::RandomIds(9, 4);
  request.sampling.max_tokens = 4;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    Step(*trainer, seed);
    const auto sampled = trainer->Sample({request}, 60.0);
    ASSERT_TRUE(sampled.ok()) << sampled.status();
    const auto near_model = testing::MakeTinyModel(Family::kQwen3, at::kFloat, 99);
    near_model->parameters().values().copy_(model->parameters().values());
    const auto reference = *Trainer::Create(near_model, {.sampler = LocalSampler()});
    const auto expected = reference->Sample({request}, 60.0);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ((*sampled)[0][0].ids, (*expected)[0][0].ids);
    EXPECT_EQ((*sampled)[0][0].logprobs, (*expected)[0][0].logprobs);  // of the same values
  }
  EXPECT_EQ((*trainer->SamplerModel())->parameters().values().data_ptr(),
            model->parameters().values().data_ptr());
}

}  // namespace
}  // namespace rft
