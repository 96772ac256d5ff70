// What the planner predicts against what the allocator hands out, and what it does with a limit.
#include "rft/train/memory_planner.h"

#include <algorithm>

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/core/process_memory.h"
#include "rft/train/memory_model.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using ::testing::HasSubstr;

// Bytes of tensors that live at once, as the allocator reports them.
class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    now_ += size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t now_ = 0, peak_ = 0;
};

Datum LongRow(int64_t length) {
  Datum datum;
  datum.ids = testing::RandomIds(length, 3);
  datum.weights.assign(length, 1.0f);
  datum.weights[0] = 0.0f;
  datum.advantages.assign(length, 1.0f);
  return datum;
}

struct Case {
  Family family;
  at::ScalarType dtype;
  int64_t checkpoint_every, lora_rank;
};

class MemoryModelTest : public ::testing::TestWithParam<Case> {};

TEST_P(MemoryModelTest, PredictsThePeakOfAForwardAndBackward) {
  const Case c = GetParam();
  const testing::ThreadCount one_thread(1);
  const auto model = testing::MakeTinyModel(c.family, c.dtype);
  TrainerOptions options{.token_budget = 1 << 20, .checkpoint_every = c.checkpoint_every};
  if (c.lora_rank > 0) options.adapter = *LoraAdapter::Create(model, {.rank = c.lora_rank});
  const auto trainer = *Trainer::Create(model, options);
  const std::vector<Datum> datums(16, LongRow(256));
  const LossConfig loss = FindLoss("grpo").DefaultConfig();
  ASSERT_TRUE(trainer->ForwardBackward(datums, loss).ok());  // gradients exist from now on
  const auto live = std::make_shared<LiveBytes>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    ASSERT_TRUE(trainer->ForwardBackward(datums, loss).ok());
  }
  MicroBatchMemory predicted = MemoryOfMicroBatch(*model, options.adapter.get(),
                                                  {16 * 255, 16 * 255, 0, c.checkpoint_every});
  const auto total = static_cast<double>(predicted.activations + predicted.workspace);
  EXPECT_NEAR(total / static_cast<double>(live->peak()), 1.0, 0.1) << live->peak();
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
                                           Case{Family::kQwen3Moe, at::kFloat, 0, 0}));

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

}  // namespace
}  // namespace rft
