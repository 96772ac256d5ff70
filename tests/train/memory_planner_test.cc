// What the planner predicts against what the allocator hands out, and what it does with a limit.
#include "rft/train/memory_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/core/process_memory.h"
#include "rft/train/memory_model.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/far_device.h"
#include "tests/tensor/live_bytes.h"
#include "tests/tensor/thread_count.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using ::testing::HasSubstr;

struct Case {
  Family family;
  at::ScalarType dtype;
  int64_t checkpoint_every, lora_rank;
  int64_t prompt = 0;  // tokens of a row that aren't predicted
};

class MemoryModelTest : public ::testing::TestWithParam<Case> {};

TEST_P(MemoryModelTest, PredictsThePeakOfAForwardAndBackward) {
  const Case c = GetParam();
  const testing::ThreadCount one_thread(1);
  const auto model = testing::MakeTinyModel(c.family, c.dtype);
  TrainerOptions options{.token_budget = 1 << 20, .checkpoint_every = c.checkpoint_every};
  if (c.lora_rank > 0) options.adapter = *LoraAdapter::Create(model, {.rank = c.lora_rank});
  const auto trainer = *Trainer::Create(model, options);
  Datum row = testing::LongRow(256);
  std::fill_n(row.weights.begin() + 1, c.prompt, 0.0f);
  const std::vector<Datum> datums(16, row);
  const LossConfig loss = FindLoss("grpo").DefaultConfig();
  ASSERT_TRUE(trainer->ForwardBackward(datums, loss).ok());  // gradients exist from now on
  const auto live = std::make_shared<testing::LiveBytes>(at::kCPU);
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    ASSERT_TRUE(trainer->ForwardBackward(datums, loss).ok());
  }
  MicroBatchMemory predicted = MemoryOfMicroBatch(
      *model, options.adapter.get(), {16 * 255, 16 * (255 - c.prompt), 0, c.checkpoint_every});
  const auto total = static_cast<double>(predicted.activations + predicted.workspace);
  EXPECT_NEAR(total / static_cast<double>(live->peak()), 1.0, 0.06) << live->peak();
}

INSTANTIATE_TEST_SUITE_P(Models, MemoryModelTest,
                         ::testing::Values(Case{Family::kLlama, at::kFloat, 0, 0},
                                           Case{Family::kLlama, at::kBFloat16, 0, 0},
                                           Case{Family::kQwen3, at::kFloat, 0, 0},
                                           Case{Family::kQwen3, at::kBFloat16, 0, 0},
                                           Case{Family::kQwen3, at::kBFloat16, 1, 0},
                                           Case{Family::kQwen3, at::kFloat, 2, 0},
                                           Case{Family::kQwen3, at::kBFloat16, 0, 8},
                                           Case{Family::kQwen3Moe, at::kBFloat16, 0, 0},
                                           Case{Family::kQwen3Moe, at::kFloat, 0, 0},
                                           Case{Family::kQwen3, at::kFloat, 0, 0, 160},
                                           Case{Family::kQwen3Moe, at::kFloat, 0, 0, 160}));

class MemoryPlannerTest : public ::testing::Test {
 protected:
  absl::StatusOr<MemoryPlan> Plan(int64_t limit) {
    return trainer_->PlanMemory({.longest_row = 100}, limit);
  }
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(Family::kQwen3, at::kFloat);
  std::unique_ptr<Trainer> trainer_ = *Trainer::Create(model_, {.token_budget = 10'000'000});
};

TEST_F(MemoryPlannerTest, KeepsTheConfiguredMicroBatchWhereItFits) {
  const auto plan = Plan(int64_t{1} << 50);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->token_budget, 10'000'000);
  int64_t sum = 0;
  for (const MemoryItem& item : plan->items) sum += item.bytes;
  EXPECT_EQ(plan->total_bytes, sum);
}

TEST_F(MemoryPlannerTest, MakesMicroBatchesSmallerUntilTheyFit) {
  const int64_t large = Plan(int64_t{1} << 50)->total_bytes;
  const int64_t limit = large - (large - ResidentBytes()) / 2;
  const auto plan = Plan(limit);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->total_bytes, limit);
  EXPECT_LT(plan->token_budget, 10'000'000);
  EXPECT_GE(plan->token_budget, 100);
}

TEST_F(MemoryPlannerTest, RefusesARowThatCanNotFitAndSaysWhatHelps) {
  const auto plan = Plan(1 << 20);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(plan.status().message());
  EXPECT_THAT(message, HasSubstr("one row of 100 tokens needs"));
  EXPECT_THAT(message, HasSubstr("trainer.checkpoint_every: 1"));
  EXPECT_THAT(message, HasSubstr("activations"));
}

TEST_F(MemoryPlannerTest, AFrozenReferenceScoresAsBeforeWhileTheModelIsTrained) {
  const auto frozen = *Trainer::Create(model_, {.frozen = model_->weights()});
  const std::vector<Datum> datums = testing::RandomDatums(4, 1);
  const auto before = frozen->Forward(datums)->logprobs;
  ASSERT_TRUE(trainer_->ForwardBackward(datums, FindLoss("grpo").DefaultConfig()).ok());
  ASSERT_TRUE(trainer_->OptimStep({.learning_rate = 0.1}).ok());
  EXPECT_EQ(frozen->Forward(datums)->logprobs, before);
  EXPECT_NE(trainer_->Forward(datums)->logprobs, before);
  EXPECT_EQ(frozen->ForwardBackward(datums, FindLoss("grpo").DefaultConfig()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

// What stays is predicted closely; of what comes and goes, an upper bound of what fused kernels would need would be too much to
// ask of a device that has none.
TEST(DeviceMemoryPlanTest, SaysWhatIsOnTheDeviceAndWhatIsHere) {
  const testing::ThreadCount one_thread(1);
  const at::Device device = testing::OtherDevice();
  for (const bool offload : {false, true}) {
    const auto live = std::make_shared<testing::LiveBytes>(device);
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    const auto model = testing::MakeTinyModel(Family::kQwen3, at::kBFloat16);
    model->MoveTo(device, offload);
    const auto trainer = *Trainer::Create(model, {.token_budget = 4096});
    const std::vector<Datum> datums(64, testing::LongRow(17));
    const auto plan = trainer->PlanMemory(
        {.tokens_per_step = 64 * 16, .longest_row = 16, .sampled_from = true}, 0);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->device, device.str());
    EXPECT_EQ(plan->token_budget, 4096);
    int64_t there = 0, here = 0, kept = 0;
    for (const MemoryItem& item : plan->items) {
      (item.on_device ? there : here) += item.bytes;
      if (item.on_device && item.name != "activations" && item.name != "workspace")
        kept += item.bytes;
      if (item.name == "optimizer" || item.name == "weights") {
        EXPECT_EQ(item.on_device, !offload);
      }
    }
    EXPECT_EQ(plan->total_bytes, there);
    EXPECT_EQ(plan->host_bytes, here);
    ASSERT_TRUE(trainer->ForwardBackward(datums, FindLoss("grpo").DefaultConfig()).ok());
    const double part = static_cast<double>(plan->total_bytes) / static_cast<double>(live->peak());
    EXPECT_GT(part, 0.5);
    EXPECT_LT(part, 1.2);
    ASSERT_TRUE(trainer->OptimStep({.learning_rate = 0.01}).ok());
    const int64_t tables = 4 * model->config().max_positions * model->config().head_dim;
    EXPECT_NEAR(static_cast<double>(live->now() - tables) / static_cast<double>(kept), 1.0, 0.06);

    const auto smaller = trainer->PlanMemory({.longest_row = 16}, kept + (there - kept) / 4);
    ASSERT_TRUE(smaller.ok()) << smaller.status();
    EXPECT_LT(smaller->token_budget, 1024);
    EXPECT_THAT(MemoryPlanText(*smaller), HasSubstr(" on " + device.str() + " of "));
    const std::string refusal(trainer->PlanMemory({.longest_row = 16}, 1000).status().message());
    EXPECT_EQ(refusal.find("trainer.offload: true") == std::string::npos, offload) << refusal;
  }
}

}  // namespace
}  // namespace rft
