#include "rft/models/model_config.h"

#include <cmath>
#include <numbers>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/io/json.h"
#include "rft/models/rope.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kBase =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100,
  "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 3})";

// kBase with keys set (null removes one).
std::string With(const std::string& changes) {
  json::value base = ParseJson(kBase).value();
  const json::value wanted = ParseJson(changes).value();
  json::object& object = base.get_object();
  for (const auto& [key, value] : wanted.get_object()) {
    if (value.is_null())
      object.erase(key);
    else
      object[key] = value;
  }
  return ToJson(base);
}

TEST(ModelConfigTest, ReadsTheLanguageModelsPartOfAModelThatSees) {
  const auto c = ParseModelConfig(
      R"({"architectures": ["SeesForConditionalGeneration"], "model_type": "sees", "tie_word_embeddings": true,
          "eos_token_id": 3, "hidden_size": 7,
          "text_config": {"model_type": "sees_text", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
                          "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": null},
          "vision_config": {"num_hidden_layers": 9}})");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "SeesForConditionalGeneration");
  EXPECT_EQ(c->model_type, "sees_text");
  EXPECT_EQ(c->hidden_size, 32);
  EXPECT_EQ(c->num_layers, 2);
  EXPECT_TRUE(c->tie_word_embeddings);
  EXPECT_THAT(c->end_ids, ElementsAre(3));
  EXPECT_TRUE(c->is_part);
}

TEST(ModelConfigTest, ReadsTheSlidingWindowOfEachLayer) {
  const std::pair<const char*, std::vector<int64_t>> cases[] = {
      {R"({"sliding_window": 8})", {}},  // Llama and Qwen want to be told to use it
      {R"({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1})", {0, 8}},
      {R"({"sliding_window": 8, "use_sliding_window": true,
           "layer_types": ["sliding_attention", "full_attention"]})",
       {8, 0}},
      {R"({"sliding_window": 8, "model_type": "mistral"})", {8, 8}},
      {R"({"model_type": "mistral"})", {}}};
  for (const auto& [changes, windows] : cases) {
    const auto c = ParseModelConfig(With(changes));
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(c->layer_windows, windows) << changes;
  }
}

TEST(ModelConfigTest, FillsInWhatTheFileLeavesOut) {
  const auto c = ParseModelConfig(kBase);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "LlamaForCausalLM");
  EXPECT_EQ(c->num_kv_heads, 4);
  EXPECT_EQ(c->head_dim, 8);
  EXPECT_EQ(c->max_positions, 2048);
  EXPECT_FALSE(c->tie_word_embeddings);
  EXPECT_EQ(c->rope.type, "default");
  EXPECT_EQ(c->rope.theta, 10000.0);
  EXPECT_THAT(c->end_ids, ElementsAre(3));
  EXPECT_EQ(c->json, kBase);
}

TEST(ModelConfigTest, ReadsBothSpellingsOfRope) {
  const auto hub = ParseModelConfig(
      With(R"({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}})"));
  const auto five = ParseModelConfig(
      With(R"({"rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 5e5}})"));
  for (const auto* c : {&hub, &five}) {
    ASSERT_TRUE(c->ok()) << c->status();
    EXPECT_EQ((*c)->rope.type, "linear");
    EXPECT_EQ((*c)->rope.factor, 4.0);
    EXPECT_EQ((*c)->rope.theta, 5e5);
  }
}

TEST(ModelConfigTest, ReadsLlama3AndYarnScaling) {
  const auto llama3 =
      ParseModelConfig(With(R"({"rope_scaling": {"rope_type": "llama3", "factor": 32.0,
    "low_freq_factor": 2.0, "high_freq_factor": 5.0, "original_max_position_embeddings": 4096}})"));
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope.low_freq_factor, 2.0);
  EXPECT_EQ(llama3->rope.high_freq_factor, 5.0);
  EXPECT_EQ(llama3->rope.original_max_positions, 4096);
  const auto yarn = ParseModelConfig(
      With(R"({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}})"));
  ASSERT_TRUE(yarn.ok()) << yarn.status();
  EXPECT_EQ(yarn->rope.beta_fast, 16.0);
  EXPECT_EQ(yarn->rope.original_max_positions, 2048);  // falls back to the context
}

TEST(ModelConfigTest, PrefersTheEndTokensOfTheGenerationConfig) {
  EXPECT_THAT(ParseModelConfig(kBase, R"({"eos_token_id": [7, 8]})")->end_ids, ElementsAre(7, 8));
  EXPECT_THAT(ParseModelConfig(kBase, R"({"temperature": 0.6})")->end_ids, ElementsAre(3));
}

TEST(ModelConfigTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"architectures": null})", "architectures: missing"},
      {R"({"architectures": []})", "architectures: missing"},
      {R"({"vocab_size": null})", "config.json: vocab_size: missing"},
      {R"({"hidden_size": null})", "config.json: hidden_size: missing"},
      {R"({"intermediate_size": null})", "config.json: intermediate_size: missing"},
      {R"({"num_hidden_layers": null})", "config.json: num_hidden_layers: missing"},
      {R"({"num_attention_heads": null})", "config.json: num_attention_heads: missing"},
      {R"({"hidden_size": "32"})", "hidden_size: must be a whole number"},
      {R"({"hidden_size": 0})", "hidden_size: must be in 1 .. "},
      {R"({"num_hidden_layers": 1e9})", "num_hidden_layers: must be"},
      {R"({"num_key_value_heads": 3})", "num_key_value_heads: must divide num_attention_heads"},
      {R"({"head_dim": 7})", "head_dim: must be even"},
      {R"({"hidden_act": "gelu"})", "hidden_act: only silu is supported"},
      {R"({"hidden_act": 3})", "hidden_act: must be a text"},
      {R"({"attention_bias": true})", "attention_bias: biases are not supported"},
      {R"({"mlp_bias": true})", "mlp_bias: biases are not supported"},
      {R"({"mlp_bias": "no"})", "mlp_bias: must be true or false"},
      {R"({"use_sliding_window": true})", "sliding_window: missing"},
      {R"({"use_sliding_window": true, "sliding_window": 8, "layer_types": ["full_attention"]})",
       "layer_types: must name a type for each layer"},
      {R"({"quantization_config": {}})",
       "quantization_config.quant_method: '' is not supported in this form"},
      {R"({"rms_norm_eps": "small"})", "rms_norm_eps: must be a number"},
      {R"({"eos_token_id": "end"})", "eos_token_id: must be a token id"},
      {R"({"eos_token_id": [1, 100]})", "eos_token_id: 100 is outside the vocabulary"},
      {R"({"rope_theta": -1})", "rope_theta: must be positive"},
      {R"({"rope_scaling": 3})", "rope_scaling: must be an object"},
      {R"({"rope_scaling": {"rope_type": "dynamic"}})",
       "rope_scaling.rope_type: 'dynamic' is not supported; supported: default, linear, llama3, "
       "yarn"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 0.5}})",
       "rope_scaling.factor: must be at least 1"}};
  for (const auto& [change, message] : cases) {
    const auto config = ParseModelConfig(With(change));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << change;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(message)) << change;
  }
}

TEST(ModelConfigTest, RejectsTextThatIsNoObject) {
  for (const char* text : {"", "{", "[]", "3"})
    EXPECT_EQ(ParseModelConfig(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_THAT(std::string(ParseModelConfig(kBase, "[]").status().message()),
              HasSubstr("generation_config.json"));
}

// Low frequencies are divided by the factor, high ones kept, those between interpolated (transformers' modeling_rope_utils).
TEST(RopeTest, ScalesLlama3FrequenciesByWavelength) {
  RopeConfig plain, scaled;
  scaled.type = "llama3";
  scaled.factor = 8.0;
  const std::vector<float> f = InverseFrequencies(plain, 64), g = InverseFrequencies(scaled, 64);
  for (size_t i = 0; i < f.size(); ++i) {
    EXPECT_NEAR(f[i], std::pow(10000.0, -2.0 * static_cast<double>(i) / 64), 1e-6 * f[i]);
    const double wavelength = 2.0 * std::numbers::pi / f[i],
                 smooth = (8192.0 / wavelength - 1.0) / 3.0;
    const double expected = wavelength > 8192.0 ? f[i] / 8.0
                            : wavelength < 8192.0 / 4.0
                                ? f[i]
                                : (1.0 - smooth) * f[i] / 8.0 + smooth * f[i];
    EXPECT_NEAR(g[i], expected, 1e-6 * expected) << i;
  }
}

TEST(RopeTest, InterpolatesYarnBetweenTheBetasAndScalesTheTable) {
  RopeConfig plain, yarn;
  yarn.type = "yarn";
  yarn.factor = 4.0;
  yarn.original_max_positions = 2048;
  const std::vector<float> f = InverseFrequencies(plain, 64), g = InverseFrequencies(yarn, 64);
  EXPECT_FLOAT_EQ(g.front(), f.front());
  EXPECT_FLOAT_EQ(g.back(), f.back() / 4.0f);
  for (size_t i = 0; i < f.size(); ++i)
    EXPECT_TRUE(g[i] <= f[i] * 1.000001f && g[i] >= f[i] * 0.249999f) << i;
  EXPECT_NEAR(RopeTable(yarn, 64, 4).cos()[0][0].item<double>(), 0.1 * std::log(4.0) + 1.0, 1e-6);
}

TEST(RopeTest, TabulatesCosineAndSineOfEveryPosition) {
  const RopeTable table(RopeConfig{}, 8, 50);
  EXPECT_NEAR(table.cos()[49][1].item<double>(), std::cos(4.9), 1e-5);
  EXPECT_NEAR(table.sin()[49][1].item<double>(), std::sin(4.9), 1e-5);
}

}  // namespace
}  // namespace rft
