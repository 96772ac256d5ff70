// Trainer::Sample: completions of the weights as they are now, and clients that run at the same time.
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/engine/local_engine.h"
#include "rft/train/trainer.h"
#include "tests/models/tiny_model.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::RandomDatums;

const LossConfig kCrossEntropy = FindLoss("cross-entropy").DefaultConfig();
const AdamParams kAdam{.learning_rate = 0.02, .eps = 1e-8};

std::vector<GenerateRequest> Requests() {
  GenerateRequest request;
  request.prompt = testing::RandomIds(5, 1);
  request.sampling.max_tokens = 12;
  request.sampling.ignore_eos = true;
  request.num_samples = 2;
  return {request};
}

class TrainerSampleTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Trainer> MakeTrainer(std::shared_ptr<CausalLm> model, uint64_t seed = 1) {
    TrainerOptions options{.sampler = LocalSampler({.max_batch = 4})};
    if (GetParam())
      options.adapter = *LoraAdapter::Create(model, {.rank = 2, .alpha = 4.0, .seed = seed});
    return *Trainer::Create(std::move(model), options);
  }
  std::shared_ptr<CausalLm> MakeModel() {
    return testing::MakeTinyModel(testing::Family::kLlama, at::kBFloat16);
  }
};

TEST_P(TrainerSampleTest, DrawsFromTheWeightsAsTheyAreNow) {
  auto trainer = MakeTrainer(MakeModel());
  std::vector<std::vector<TokenId>> drawn;
  for (int round = 0; round < 3; ++round) {
    const auto groups = trainer->Sample(Requests(), 60.0);
    ASSERT_TRUE(groups.ok()) << groups.status();
    ASSERT_EQ((*groups)[0].size(), 2u);
    for (const Completion& c : (*groups)[0]) {
      Datum d;
      d.ids = Requests()[0].prompt;
      d.weights.assign(d.ids.size(), 0.0f);
      d.ids.insert(d.ids.end(), c.ids.begin(), c.ids.end());
      d.weights.resize(d.ids.size(), 1.0f);
      const auto forward = trainer->Forward({d});
      ASSERT_TRUE(forward.ok()) << forward.status();
      const auto& row = forward->logprobs[0];
      EXPECT_EQ(std::vector<float>(row.end() - 12, row.end()), c.logprobs);
    }
    drawn.push_back((*groups)[0][0].ids);
    ASSERT_TRUE(trainer->ForwardBackward(RandomDatums(3, round), kCrossEntropy).ok());
    ASSERT_TRUE(trainer->OptimStep({.learning_rate = 0.1}).ok());
  }
  EXPECT_NE(drawn[0], drawn[2]);  // training has changed what is said
}

TEST_P(TrainerSampleTest, SaysWhatIsMissingWithoutAnEngine) {
  const auto trainer = *Trainer::Create(MakeModel(), {});
  const auto groups = trainer->Sample(Requests(), 60.0);
  EXPECT_EQ(groups.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(groups.status().message()), HasSubstr("TrainerOptions::sampler"));
}

TEST_P(TrainerSampleTest, ClientsInThreadsOfTheirOwnGetWhatEachGetsAlone) {
  const auto train = [](Trainer& trainer, int client, std::vector<std::vector<TokenId>>& said) {
    for (int step = 0; step < 3; ++step) {
      ASSERT_TRUE(trainer.ForwardBackward(RandomDatums(2, 10 * client + step), kCrossEntropy).ok());
      ASSERT_TRUE(trainer.OptimStep(kAdam).ok());
      const auto groups = trainer.Sample(Requests(), 60.0);
      ASSERT_TRUE(groups.ok()) << groups.status();
      said.push_back((*groups)[0][1].ids);
    }
  };
  // Adapters share one base; whole models are each client's own.
  const auto make = [this] {
    std::vector<std::unique_ptr<Trainer>> clients;
    const auto base = MakeModel();
    for (uint64_t i = 0; i < 2; ++i)
      clients.push_back(MakeTrainer(GetParam() ? base : MakeModel(), i));
    return clients;
  };
  std::vector<std::vector<TokenId>> alone[2], together[2];
  const auto first = make(), second = make();
  for (int i = 0; i < 2; ++i) train(*first[i], i, alone[i]);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) threads.emplace_back([&, i] { train(*second[i], i, together[i]); });
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(alone[i], together[i]);
  EXPECT_NE(alone[0], alone[1]);
}

INSTANTIATE_TEST_SUITE_P(All, TrainerSampleTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Adapter" : "WholeModel"; });

}  // namespace
}  // namespace rft
