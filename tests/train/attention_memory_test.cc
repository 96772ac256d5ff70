// What a forward and backward of one row needs grows with its length, not with its square: no scores of all pairs are kept.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "losses/loss.h"
#include "rft/train/trainer.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/live_bytes.h"
#include "tests/tensor/thread_count.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

constexpr const char* kPlain = R"("architectures": ["LlamaForCausalLM"], "model_type": "llama")";
constexpr const char* kWindow =
    R"("architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 100)";
constexpr const char* kSelected = R"("architectures": ["DeepseekV32ForCausalLM"],
  "model_type": "deepseek_v32", "q_lora_rank": 28, "kv_lora_rank": 20, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
  "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "index_topk": 64,
  "index_n_heads": 2, "index_head_dim": 16)";

struct Case {
  const char* name;
  const char* keys;
  at::ScalarType dtype;
};

class AttentionMemoryTest : public ::testing::TestWithParam<Case> {
 protected:
  // The most bytes that were live at once; gradients and optimizer state were there before.
  int64_t PeakOfAStep(int64_t length) {
    const Datum row = testing::LongRow(length);
    const LossConfig loss = FindLoss("grpo").DefaultConfig();
    EXPECT_TRUE(trainer_->ForwardBackward({row}, loss).ok());
    const auto live = std::make_shared<testing::LiveBytes>(at::kCPU);
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    EXPECT_TRUE(trainer_->ForwardBackward({row}, loss).ok());
    return live->peak();
  }

  const testing::ThreadCount one_thread_{1};
  std::unique_ptr<Trainer> trainer_ = *Trainer::Create(
      *CreateRandomModel(
          absl::StrCat("{", GetParam().keys, R"(, "vocab_size": 258, "hidden_size": 32,
        "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 2048})"),
          GetParam().dtype, /*seed=*/1),
      {.token_budget = 1 << 20});
};

TEST_P(AttentionMemoryTest, GrowsLinearlyWithTheContext) {
  const auto shorter = static_cast<double>(PeakOfAStep(512));
  EXPECT_LE(static_cast<double>(PeakOfAStep(2048)) / shorter, 4.5) << shorter;
}

INSTANTIATE_TEST_SUITE_P(Models, AttentionMemoryTest,
                         ::testing::Values(Case{"Fp32", kPlain, at::kFloat},
                                           Case{"Bf16", kPlain, at::kBFloat16},
                                           Case{"Windows", kWindow, at::kFloat},
                                           Case{"SelectedKeys", kSelected, at::kBFloat16}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace rft
