// Memory that runs out anywhere in a verb that changes the weights: nothing has changed, and the verb may be called again.
#include <atomic>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/core/file_system.h"
#include "rft/train/trainer.h"
#include "rft/train/trainer_state.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::RandomDatums;

// torch's allocator for CPU tensors, with a limit on the bytes that are in use. One for the process, never taken away again.
class LimitedMemory : public c10::Allocator {
 public:
  static LimitedMemory& Get() {
    static auto* allocator = new LimitedMemory();
    return *allocator;
  }
  at::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK_WITH(OutOfMemoryError, in_use_ + static_cast<int64_t>(bytes) <= limit_,
                     "out of memory: the test's limit of ", limit_);
    in_use_ += static_cast<int64_t>(bytes);
    auto* block = new Block{under_->allocate(bytes), static_cast<int64_t>(bytes)};
    return {block->memory.get(), block, &Free, at::Device(at::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  void Allow(int64_t more) { limit_ = in_use_ + more; }
  void AllowAll() { limit_ = INT64_MAX; }

 private:
  struct Block {
    at::DataPtr memory;
    int64_t bytes;
  };
  LimitedMemory() : under_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, /*priority=*/1); }
  static void Free(void* context) {
    auto* block = static_cast<Block*>(context);
    Get().in_use_ -= block->bytes;
    delete block;
  }

  c10::Allocator* const under_;
  std::atomic<int64_t> in_use_ = 0, limit_ = INT64_MAX;
};

struct Case {
  const char* name;
  OptimizerOptions optimizer;
  bool adapter = false;
  testing::Family family = testing::Family::kQwen3;
};

class OutOfMemoryTest : public ::testing::TestWithParam<Case> {
 protected:
  OutOfMemoryTest() { LimitedMemory::Get(); }  // before any tensor is made
  ~OutOfMemoryTest() override { LimitedMemory::Get().AllowAll(); }

  std::unique_ptr<Trainer> MakeTrainer() {
    auto model = testing::MakeTinyModel(GetParam().family, at::kBFloat16);
    TrainerOptions options{.optimizer = GetParam().optimizer};
    if (GetParam().adapter)
      options.adapter = *LoraAdapter::Create(
          model, {.rank = 3, .alpha = 6.0, .targets = {"all", "embed_tokens", "lm_head"}});
    return *Trainer::Create(std::move(model), options);
  }
  void Accumulate(Trainer& trainer, uint64_t seed) {
    const auto pass = trainer.ForwardBackward(RandomDatums(2, seed), loss_);
    ASSERT_TRUE(pass.ok()) << pass.status();
  }
  std::string State(Trainer& trainer) {
    const std::string dir = dir_ / "state";
    EXPECT_TRUE(FileSystem::Default().CreateDirs(dir).ok());
    EXPECT_TRUE(trainer.SaveState(dir).ok());
    return *FileSystem::Default().ReadFile(JoinPath(dir, kTrainerStateFile));
  }
  // Calls `verb` with a little more memory each time until it works. How often it did not.
  template <typename Verb>
  int RunOutOfMemory(Trainer& trainer, const Verb& verb) {
    LimitedMemory& memory = LimitedMemory::Get();
    const std::vector<Datum> datums = RandomDatums(1, 99);
    const auto scores = trainer.Forward(datums);
    const at::Tensor values = trainer.parameters().values().clone(),
                     grads = trainer.parameters().grads().clone();
    const int64_t steps = trainer.num_steps();
    int failures = 0;
    for (int64_t room = 0;; room = room + room / 8 + 64, ++failures) {
      memory.Allow(room);
      const absl::Status status = verb();
      memory.AllowAll();
      if (status.ok()) return failures;
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_EQ(trainer.Forward(datums)->logprobs, scores->logprobs) << "with room for " << room;
      EXPECT_TRUE(at::equal(trainer.parameters().values(), values)) << "with room for " << room;
      EXPECT_TRUE(at::equal(trainer.parameters().grads(), grads)) << "with room for " << room;
      EXPECT_EQ(trainer.num_steps(), steps);
      if (::testing::Test::HasFailure()) return failures;
    }
  }

  const testing::ThreadCount one_thread_{1};
  const LossConfig loss_ = FindLoss("grpo").DefaultConfig();
  const AdamParams adam_{.learning_rate = 0.01, .eps = 1e-8, .weight_decay = 0.1};
  testing::TempDir dir_;
};

TEST_P(OutOfMemoryTest, AStepThatFailsChangesNothingAndMayBeMadeAgain) {
  std::vector<std::string> states;
  for (const bool limited : {false, true}) {
    auto trainer = MakeTrainer();
    std::vector<std::shared_ptr<const PublishedWeights>> held;
    for (int step = 0; step < 3; ++step) {
      if (step < 2) held.push_back(*trainer->SaveWeightsForSampler());  // the next needs room
      Accumulate(*trainer, step);
      const auto optim_step = [&] { return trainer->OptimStep(adam_).status(); };
      if (!limited) {
        ASSERT_TRUE(optim_step().ok());
      } else {
        EXPECT_GT(RunOutOfMemory(*trainer, optim_step), step < 2 ? 3 : -1);
      }
    }
    states.push_back(State(*trainer));
  }
  EXPECT_TRUE(states[0] == states[1]);
}

TEST_P(OutOfMemoryTest, AStateThatCannotBeLoadedChangesNothing) {
  auto saved = MakeTrainer(), other = MakeTrainer();
  for (int step = 0; step < 2; ++step) {
    for (auto& trainer : {saved.get(), other.get()}) {
      Accumulate(*trainer, step + (trainer == other.get() ? 10 : 0));
      ASSERT_TRUE(trainer->OptimStep(adam_).ok());
    }
  }
  const std::string want = State(*saved);
  const auto held = *other->SaveWeightsForSampler();
  RunOutOfMemory(*other, [&] { return other->LoadState(dir_ / "state"); });
  EXPECT_TRUE(State(*other) == want);
}

INSTANTIATE_TEST_SUITE_P(All, OutOfMemoryTest,
                         ::testing::Values(Case{"AdamW", {}}, Case{"AdamWInt8", {.state = "int8"}},
                                           Case{"Sgd", {.kind = "sgd"}},
                                           Case{"Muon", {.kind = "muon"}},
                                           Case{"Experts", {}, false, testing::Family::kQwen3Moe},
                                           Case{"Adapter", {}, true},
                                           Case{"MuonAdapter", {.kind = "muon"}, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace rft
