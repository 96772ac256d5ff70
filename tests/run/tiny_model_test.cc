// A whole run on real parts: a two-layer Llama with random weights over bytes, our trainer and our engine.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/config/config_reader.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/io/manifest.h"
#include "rft/models/causal_lm.h"
#include "rft/run/local_parts.h"
#include "rft/run/run.h"
#include "tests/tensor/far_device.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

constexpr const char* kModel = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 32,
  "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
  "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
  "hidden_act": "silu", "attention_bias": false, "mlp_bias": false, "eos_token_id": 257, "bos_token_id": 256})";

constexpr const char* kConfig = R"(
name: tiny
seed: 5
rollout: {prompts_per_step: 3, group_size: 4, max_tokens: 12}
trainer: {steps: 3, learning_rate: 0.01, dtype: fp32, threads: 2}
engine: {kv_memory_mb: 16}
)";

// Not all equal for random text: the share of bytes below 128.
double ShareOfAscii(const GradeInput& input) {
  double n = 0;
  for (TokenId id : input.token_ids) n += id < 128;
  return input.token_ids.empty() ? 0.0 : n / static_cast<double>(input.token_ids.size());
}

class TinyModelRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::shared_ptr<CausalLm>> model =
        CreateRandomModel(kModel, at::kFloat, /*seed=*/1);
    ASSERT_TRUE(model.ok()) << model.status();
    const absl::Status saved = SaveModel(**model, dir_ / "model", SaveDtype::kFloat32);
    ASSERT_TRUE(saved.ok()) << saved;
    std::string rows;
    for (int i = 0; i < 8; ++i)
      rows += R"({"messages": [{"role": "user", "content": "row )" + std::to_string(i) + "\"}]}\n";
    ASSERT_TRUE(WriteFile(FileSystem::Default(), dir_ / "train.jsonl", rows).ok());
  }

  absl::StatusOr<std::unique_ptr<rft::Run>> Create(const std::string& run_dir,
                                                   std::vector<std::string> overrides = {},
                                                   const std::string& resume_dir = "") {
    for (const char* set :
         {"model=model", "data.train=train.jsonl", "data.heldout=train.jsonl", "eval.max_rows=4"})
      overrides.insert(overrides.begin(), set);
    RFT_ASSIGN_OR_RETURN(RunConfig config, ParseRunConfig(kConfig, "tiny.yaml", dir_.path(),
                                                          {.overrides = overrides}));
    config.run_dir = dir_ / run_dir;
    RFT_ASSIGN_OR_RETURN(
        auto run, rft::Run::Create(config, std::make_shared<testing::FakeCodec>(), {}, resume_dir));
    RFT_RETURN_IF_ERROR(run->AddGrader("ascii", ShareOfAscii));
    return run;
  }
  // Creates a run and makes `steps` steps.
  std::unique_ptr<rft::Run> RunFor(int steps, const std::string& run_dir,
                                   std::vector<std::string> overrides = {},
                                   const std::string& resume_dir = "") {
    auto run = Create(run_dir, std::move(overrides), resume_dir);
    EXPECT_TRUE(run.ok()) << run.status();
    if (!run.ok()) return nullptr;
    for (int i = 0; i < steps; ++i) {
      NextStep step = (*run)->Next();
      EXPECT_TRUE(step) << step.status();
    }
    return *std::move(run);
  }
  json::object Json(const std::string& path) {
    return ParseJson(*FileSystem::Default().ReadFile(dir_ / path))->get_object();
  }
  // Without what depends on the clock.
  std::vector<json::object> Metrics(const std::string& run_dir) {
    std::vector<json::object> lines;
    const std::string text = *FileSystem::Default().ReadFile(dir_ / (run_dir + "/metrics.jsonl"));
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
      lines.push_back(ParseJson(text.substr(at, text.find('\n', at) - at))->get_object());
      for (const char* timing :
           {"sample_s", "train_s", "seconds", "tokens_per_s_sampling", "tokens_per_s_training"})
        lines.back().erase(timing);
    }
    return lines;
  }

  testing::TempDir dir_;
};

TEST_F(TinyModelRunTest, RunsThreeStepsFromConfigurationToModel) {
  auto run = RunFor(3, "run");
  ASSERT_NE(run, nullptr);
  EXPECT_FALSE(run->Next());
  ASSERT_TRUE(run->Finish().ok());
  const json::object summary = Json("run/summary.json");
  EXPECT_EQ(GetInt(summary, "steps").value(), 3);
  EXPECT_GT(GetInt(summary, "tokens_sampled").value(), 0);
  EXPECT_TRUE(summary.at("before").is_double());
  EXPECT_TRUE(summary.at("after").is_double());
  EXPECT_TRUE(LoadModel(dir_ / "run/model", at::kFloat).ok());
  EXPECT_LT(GetDouble(summary, "export_difference").value(), 0.02);  // the folder is bf16
  const std::string card = *FileSystem::Default().ReadFile(dir_ / "run/model/README.md");
  EXPECT_THAT(card, HasSubstr(*Sha256OfFile(dir_ / "train.jsonl", FileSystem::Default())));
  EXPECT_THAT(card, HasSubstr("\"steps\": 3"));
  EXPECT_THAT(card, HasSubstr("\"learning_rate\": 0.01"));
}

TEST_F(TinyModelRunTest, SamplesAndTrainsOnTheSameLogprobs) {
  auto run = RunFor(3, "run");
  ASSERT_NE(run, nullptr);
  for (const json::object& line : Metrics("run"))
    EXPECT_EQ(GetDouble(line, "logprob_diff_max").value(), 0.0);
}

TEST_F(TinyModelRunTest, SaysWhereNothingCouldBeCompared) {
  for (const auto& [temperature, compared] :
       {std::pair("rollout.temperature=1", true), std::pair("rollout.temperature=0.8", false)}) {
    auto run = RunFor(1, temperature, {temperature, "rollout.top_p=0.9"});
    ASSERT_NE(run, nullptr);
    ASSERT_TRUE(run->Finish().ok());
    EXPECT_EQ(Metrics(temperature)[0].at("logprob_diff_max").is_double(), compared);
    EXPECT_EQ(Json(std::string(temperature) + "/summary.json").at("logprob_diff_max").is_double(),
              compared);
  }
}

// The engine's copy of the weights is on the CPU: its log-probabilities are close to the trainer's.
TEST_F(TinyModelRunTest, TrainsOnAnotherDevice) {
  // With AdamW's eps well above the rounding of a gradient.
  const std::vector<std::string> knobs = {"losses.kl_coef=0.1", "trainer.eps=1e-3",
                                          "checkpoint.every=1"};
  RunFor(3, "cpu", knobs);
  const std::vector<json::object> expected = Metrics("cpu");
  for (const std::string offload : {"false", "true"}) {
    std::vector<std::string> device = knobs;
    device.push_back("trainer.device=" + testing::OtherDevice().str());
    device.push_back("trainer.offload=" + offload);
    const std::string name = "offload-" + offload;
    RunFor(2, name, device);
    auto run = RunFor(1, name, device, dir_ / name);
    ASSERT_NE(run, nullptr);
    ASSERT_TRUE(run->Finish().ok());
    EXPECT_TRUE(LoadModel(dir_ / (name + "/model"), at::kFloat).ok());
    const std::vector<json::object> lines = Metrics(name);
    ASSERT_EQ(lines.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_LE(GetDouble(lines[i], "logprob_diff_max").value(), 1e-4);
      const double norm = GetDouble(expected[i], "grad_norm").value();
      EXPECT_NEAR(GetDouble(lines[i], "grad_norm").value(), norm, 1e-4 * norm);
    }
  }
}

TEST_F(TinyModelRunTest, RefusesADeviceThatIsNotThere) {
  EXPECT_THAT(std::string(Create("run", {"trainer.device=cuda:99"}).status().message()),
              HasSubstr("trainer.device: 'cuda:99': torch sees "));
  EXPECT_THAT(std::string(Create("run", {"trainer.offload=true"}).status().message()),
              HasSubstr("trainer.offload: is for another trainer.device than cpu"));
}

TEST_F(TinyModelRunTest, ChangesTheWeightsItSamplesFrom) {
  auto run = RunFor(1, "run");
  ASSERT_NE(run, nullptr);
  const json::object line = Metrics("run")[0];
  EXPECT_GT(GetDouble(line, "grad_norm").value(), 0.0);
  EXPECT_EQ(GetDouble(line, "num_updates").value(), 1.0);
}

// Metrics, weights and optimizer.
TEST_F(TinyModelRunTest, ResumesBitForBitAfterEachOfTwentySteps) {
  constexpr size_t kSteps = 20;
  const std::vector<std::string> knobs = {"checkpoint.every=1", "trainer.steps=20",
                                          "rollout.prompts_per_step=2"};
  RunFor(kSteps, "whole", knobs);
  RunFor(1, "parts", knobs);
  for (size_t i = 1; i < kSteps; ++i) RunFor(1, "parts", knobs, dir_ / "parts");
  const std::vector<json::object> whole = Metrics("whole"), parts = Metrics("parts");
  ASSERT_EQ(parts.size(), kSteps);
  for (size_t i = 0; i < kSteps; ++i) EXPECT_EQ(ToJson(parts[i]), ToJson(whole[i]));
  const auto state = [&](const std::string& run) {
    return *FileSystem::Default().ReadFile(dir_ /
                                           (run + "/checkpoints/step-20/trainer.safetensors"));
  };
  EXPECT_TRUE(state("parts") == state("whole"));
}

TEST_F(TinyModelRunTest, ResumesBitForBitWithAReferenceThatMoves) {
  const std::vector<std::string> knobs = {"checkpoint.every=1", "losses.kl_coef=0.1",
                                          "trainer.reference_decay=0.5"};
  RunFor(3, "whole", knobs);
  RunFor(2, "halves", knobs);
  RunFor(1, "halves", knobs, dir_ / "halves");
  const std::vector<json::object> whole = Metrics("whole"), halves = Metrics("halves");
  ASSERT_EQ(halves.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(ToJson(halves[i]), ToJson(whole[i]));
  EXPECT_TRUE(FileSystem::Default().Exists(dir_ / "whole/checkpoints/step-3/reference"));
}

TEST_F(TinyModelRunTest, TrainsWithAReferenceAndSeveralUpdates) {
  auto run = RunFor(2, "run", {"losses.kl_coef=0.1", "trainer.updates_per_step=3"});
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(GetDouble(Metrics("run")[1], "num_updates").value(), 3.0);
}

TEST_F(TinyModelRunTest, NamesTheKnownLossesAndEngines) {
  EXPECT_THAT(std::string(Create("a", {"losses.name=grpoo"}).status().message()),
              HasSubstr("losses.name: unknown loss \"grpoo\"; did you mean grpo?"));
  EXPECT_THAT(std::string(Create("b", {"engine.name=remote"}).status().message()),
              HasSubstr("(known: http, local)"));
  EXPECT_FALSE(FileSystem::Default().Exists(dir_ / "a"));
}

}  // namespace
}  // namespace rft
