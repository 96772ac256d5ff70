// A trainer on another device: its verbs give the numbers of the one on the CPU, and what it saves or samples from is on the CPU.
#include "rft/models/device.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/engine/local_engine.h"
#include "rft/tensor/dispatch.h"
#include "rft/train/trainer.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/far_device.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"
#include "tests/train/random_datums.h"

namespace rft {
namespace {

using testing::Family;
using ::testing::HasSubstr;
using testing::OtherDevice;
using testing::RandomDatums;

// With eps well above the rounding of a gradient, or AdamW would make a step of the sign of what is nearly 0.
const AdamParams kAdam{
    .learning_rate = 0.01, .eps = 1e-3, .weight_decay = 0.1, .grad_clip_norm = 0.5};

double Difference(const at::Tensor& x, const at::Tensor& expected) {
  return (x.cpu() - expected).abs().max().item<double>() / expected.abs().max().item<double>();
}

double LargestDifference(const std::vector<std::vector<float>>& a,
                         const std::vector<std::vector<float>>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t t = 0; t < a[i].size(); ++t) {
      const double difference = std::abs(static_cast<double>(a[i][t]) - b[i][t]);
      largest = std::max(largest, std::isnan(difference) ? INFINITY : difference);
    }
  return largest;
}

struct Setup {
  const char* name;
  Family family;
  TrainerOptions options;
  std::optional<LoraConfig> lora = std::nullopt;
  double tolerance = 2e-5;       // relative; of log-probabilities in nats
  const char* config = nullptr;  // in place of the family's
  bool offload = false;
};

// The same model, trained here and there.
class Pair {
 public:
  explicit Pair(const Setup& setup, at::ScalarType dtype = at::kFloat)
      : tolerance_(setup.tolerance),
        near_(Make(setup, dtype, at::kCPU)),
        far_(Make(setup, dtype, OtherDevice())) {}
  Trainer& near_trainer() { return *near_; }
  Trainer& far_trainer() { return *far_; }

  // Calls verb(trainer) for both; what it returns has logprobs, and metrics of the same names.
  template <typename Verb>
  void Expect(const Verb& verb) {
    const auto here = verb(*near_), there = verb(*far_);
    ASSERT_TRUE(here.ok()) << here.status();
    ASSERT_TRUE(there.ok()) << there.status();
    EXPECT_LT(LargestDifference(there->logprobs, here->logprobs), tolerance_);
    EXPECT_NEAR(there->loss_sum, here->loss_sum, 1e-5 * std::max(1.0, std::abs(here->loss_sum)));
    EXPECT_EQ(there->num_computed_tokens, here->num_computed_tokens);
    ASSERT_EQ(there->metrics.size(), here->metrics.size());
    for (const auto& [name, value] : here->metrics)
      EXPECT_NEAR(there->metrics.at(name), value, 1e-4 * std::max(1.0, std::abs(value))) << name;
  }
  void ExpectSameGradients() {
    for (const Parameter& p : near_->parameters().all()) {
      const at::Tensor& there = far_->parameters().Find(p.name)->grad;
      EXPECT_EQ(there.device(), OtherDevice());
      if (p.grad.abs().max().item<double>() == 0.0)
        EXPECT_EQ(there.abs().max().item<double>(), 0.0) << p.name;
      else
        EXPECT_LT(Difference(there, p.grad), tolerance_) << p.name;
    }
  }
  void Step(const AdamParams& params = kAdam) {
    const auto here = near_->OptimStep(params), there = far_->OptimStep(params);
    ASSERT_TRUE(here.ok()) << here.status();
    ASSERT_TRUE(there.ok()) << there.status();
    EXPECT_NEAR(there->grad_norm, here->grad_norm, tolerance_ * here->grad_norm);
    EXPECT_EQ(there->version, here->version);
    EXPECT_EQ(far_->parameters().grads().abs().max().item<double>(), 0.0);
    for (const Parameter& p : near_->parameters().all())
      EXPECT_LT(Difference(far_->parameters().Find(p.name)->value, p.value), tolerance_) << p.name;
  }

 private:
  static std::unique_ptr<Trainer> Make(const Setup& setup, at::ScalarType dtype,
                                       at::Device device) {
    const auto model = setup.config != nullptr ? *CreateRandomModel(setup.config, dtype, /*seed=*/1)
                                               : testing::MakeTinyModel(setup.family, dtype);
    for (Parameter& buffer : model->parameters().buffers())  // a router's correction bias
      for (int64_t i = 0; i < buffer.value.numel(); ++i)
        Data<float>(buffer.value)[i] = static_cast<float>(testing::RandomIn(-0.2, 0.2, 3, i));
    model->MoveTo(device, setup.offload && !device.is_cpu());
    TrainerOptions options = setup.options;
    options.sampler = LocalSampler();
    if (setup.lora) options.adapter = *LoraAdapter::Create(model, *setup.lora);
    auto trainer = Trainer::Create(model, options);
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    return *std::move(trainer);
  }

  const double tolerance_;
  std::unique_ptr<Trainer> near_, far_;
};

class DeviceTest : public ::testing::TestWithParam<Setup> {
  const testing::ThreadCount one_thread_{1};
};

TEST_P(DeviceTest, TrainsAsTheCpuDoes) {
  Pair pair(GetParam());
  for (int step = 0; step < 3; ++step) {
    const std::vector<Datum> datums = RandomDatums(5, step + 1);
    const LossConfig loss = FindLoss(step == 1 ? "cross-entropy" : "grpo").DefaultConfig();
    pair.Expect([&](Trainer& t) { return t.ForwardBackward(datums, loss); });
    pair.ExpectSameGradients();
    pair.Step();
  }
}

// Latent attention, a correction bias, groups of experts, a shared expert, a dense layer.
constexpr char kDeepseek[] =
    R"({"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 258,
  "hidden_size": 32, "intermediate_size": 56, "moe_intermediate_size": 40, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 3,
  "n_group": 4, "topk_group": 2, "n_shared_experts": 1, "routed_scaling_factor": 2.5,
  "norm_topk_prob": true, "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16,
  "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "max_position_embeddings": 256,
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": false,
  "tie_word_embeddings": false, "initializer_range": 0.2, "eos_token_id": 257})";
// Attention to selected keys; layer 1 attends to what layer 0 chose.
constexpr char kGlm5[] =
    R"({"architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "vocab_size": 258,
  "hidden_size": 32, "intermediate_size": 56, "moe_intermediate_size": 40, "num_hidden_layers": 3,
  "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 3,
  "n_shared_experts": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": true,
  "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 12,
  "qk_rope_head_dim": 8, "v_head_dim": 10, "index_topk": 6, "index_n_heads": 8, "index_head_dim": 16,
  "indexer_types": ["full", "shared", "full"], "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
  "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": false,
  "tie_word_embeddings": false, "initializer_range": 0.2, "eos_token_id": 257})";
// A shared expert with a gate of its own.
constexpr char kQwen2Moe[] =
    R"({"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "vocab_size": 258,
  "hidden_size": 32, "intermediate_size": 56, "moe_intermediate_size": 40, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_experts": 8,
  "num_experts_per_tok": 3, "shared_expert_intermediate_size": 24, "norm_topk_prob": false,
  "qkv_bias": false, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
  "hidden_act": "silu", "tie_word_embeddings": false, "initializer_range": 0.2, "eos_token_id": 257})";

const Setup kSetups[] = {
    {.name = "Deepseek", .family = {}, .options = {}, .config = kDeepseek},
    {.name = "SelectedKeys",
     .family = {},
     .options = {.token_budget = 100, .checkpoint_every = 1},
     .config = kGlm5},
    {.name = "GatedSharedExpert", .family = {}, .options = {}, .config = kQwen2Moe},
    {"Llama", Family::kLlama, {.token_budget = 100}},
    {"Qwen3", Family::kQwen3, {.temperature = 0.7}},
    {"Checkpointed", Family::kQwen3, {.token_budget = 100, .checkpoint_every = 1}},
    {"Sgd", Family::kLlama, {.optimizer = {.kind = "sgd", .decay_vectors = false}}},
    {"Muon", Family::kQwen3, {.optimizer = {.kind = "muon"}}},
    {"Moe",
     Family::kQwen3Moe,
     {.token_budget = 100, .router_load_balance_coef = 0.1, .router_z_coef = 0.1}},
    {"MoeLora",
     Family::kQwen3Moe,
     {},
     LoraConfig{.rank = 3, .dropout = 0.2, .targets = {"experts", "router", "attention"}},
     1e-4},
    {"Lora",
     Family::kQwen3,
     {},
     LoraConfig{.rank = 3, .dropout = 0.2, .targets = {"all", "embed_tokens", "lm_head"}},
     2e-4},
    {.name = "Offloaded", .family = Family::kQwen3, .options = {}, .offload = true},
    {.name = "OffloadedUntied", .family = Family::kLlama, .options = {}, .offload = true},
    {.name = "OffloadedMoe", .family = Family::kQwen3Moe, .options = {}, .offload = true},
    {.name = "OffloadedLatent", .family = {}, .options = {}, .config = kDeepseek, .offload = true},
    {.name = "OffloadedMuon",
     .family = Family::kQwen3,
     .options = {.optimizer = {.kind = "muon"}},
     .offload = true},
    {.name = "OffloadedSgd",
     .family = Family::kLlama,
     .options = {.optimizer = {.kind = "sgd"}},
     .offload = true},
    {.name = "OffloadedLora",
     .family = Family::kQwen3,
     .options = {},
     .lora = LoraConfig{.rank = 3, .targets = {"all", "embed_tokens", "lm_head"}},
     .tolerance = 2e-4,
     .offload = true},
};
INSTANTIATE_TEST_SUITE_P(Setups, DeviceTest, ::testing::ValuesIn(kSetups),
                         [](const auto& info) { return std::string(info.param.name); });

class FarTrainerTest : public ::testing::Test {
 protected:
  const testing::ThreadCount one_thread_{1};
  const std::vector<Datum> datums_ = RandomDatums(4, 1);
  const LossConfig loss_ = FindLoss("cross-entropy").DefaultConfig();
  testing::TempDir dir_;
};

TEST_F(FarTrainerTest, ScoresDescribesAndTakesEveryKindOfLoss) {
  Pair pair({"", Family::kQwen3, {}});
  const auto forward = pair.far_trainer().Forward(datums_),
             expected = pair.near_trainer().Forward(datums_);
  ASSERT_TRUE(forward.ok()) << forward.status();
  EXPECT_LT(LargestDifference(forward->logprobs, expected->logprobs), 2e-5);
  const auto described = pair.far_trainer().Describe(datums_, 3),
             teacher = pair.near_trainer().Describe(datums_, 3);
  ASSERT_TRUE(described.ok()) << described.status();
  EXPECT_EQ(described->top_ids, teacher->top_ids);
  EXPECT_LT(LargestDifference(described->top_logprobs, teacher->top_logprobs), 2e-5);
  EXPECT_LT(LargestDifference(described->entropies, teacher->entropies), 2e-5);

  pair.Expect([&](Trainer& t) {
    return t.ForwardBackwardCustom(datums_, [](const std::vector<std::vector<float>>& logprobs) {
      CustomLossResult result;  // the sum of squares
      for (const std::vector<float>& row : logprobs) {
        result.dlogprobs.emplace_back();
        for (const float lp : row) {
          result.loss_sum += static_cast<double>(lp) * lp;
          result.dlogprobs.back().push_back(2.0f * lp);
        }
      }
      return result;
    });
  });
  pair.Expect([&](Trainer& t) {
    return t.ForwardBackwardDistillation(datums_, *teacher, {.reverse = true});
  });
  std::vector<Datum> pairs = {datums_[0], datums_[1]};
  for (Datum& d : pairs)
    for (float& w : d.weights) w = w != 0.0f ? 1.0f : 0.0f;
  pair.Expect([&](Trainer& t) {
    return t.ForwardBackwardPreference(pairs, {.name = "simpo"}, /*gradient=*/true);
  });
  pair.ExpectSameGradients();
}

TEST_F(FarTrainerTest, ChoosesAndReplaysExpertsAsTheCpuDoes) {
  Pair pair({"", Family::kQwen3Moe, {}});
  const auto expected = pair.near_trainer().Forward(datums_),
             forward = pair.far_trainer().Forward(datums_);
  ASSERT_TRUE(forward.ok()) << forward.status();
  std::vector<Datum> replayed = datums_;
  for (size_t i = 0; i < datums_.size(); ++i) {
    EXPECT_EQ(forward->routes[i].packed, expected->routes[i].packed);
    replayed[i].routes = forward->routes[i];
  }
  for (int i = 0; i < 2; ++i) {  // after a step the router would choose others
    pair.Expect([&](Trainer& t) { return t.ForwardBackward(replayed, loss_); });
    pair.Step();
  }
  pair.Expect([&](Trainer& t) { return t.ForwardBackward(replayed, loss_); });
  pair.ExpectSameGradients();
}

TEST_F(FarTrainerTest, IsAsCloseInBfloat16AsTheCpuIs) {
  Pair exact({"", Family::kQwen3, {}}), pair({"", Family::kQwen3, {}}, at::kBFloat16);
  for (Trainer* t : {&exact.near_trainer(), &pair.near_trainer(), &pair.far_trainer()})
    ASSERT_TRUE(t->ForwardBackward(datums_, loss_).ok());
  const at::Tensor g = exact.near_trainer().parameters().grads();
  EXPECT_LT(Difference(pair.far_trainer().parameters().grads(), g),
            2.0 * Difference(pair.near_trainer().parameters().grads(), g));
}

TEST_F(FarTrainerTest, SavesAStateThatTheCpuGoesOnFrom) {
  Pair pair({"", Family::kLlama, {}}), other({"", Family::kLlama, {}});
  pair.Expect([&](Trainer& t) { return t.ForwardBackward(datums_, loss_); });
  pair.Step();
  ASSERT_TRUE(pair.far_trainer().SaveState(dir_.path()).ok());
  for (Trainer* t : {&other.near_trainer(), &other.far_trainer()})
    ASSERT_TRUE(t->LoadState(dir_.path()).ok());
  EXPECT_TRUE(at::equal(other.near_trainer().parameters().values(),
                        pair.far_trainer().parameters().values().cpu()));
  other.Expect([&](Trainer& t) { return t.ForwardBackward(datums_, loss_); });
  other.Step();
}

TEST_F(FarTrainerTest, SavesAModelThatPassesTheExportCheck) {
  Pair pair({"", Family::kLlama, {}});
  pair.Expect([&](Trainer& t) { return t.ForwardBackward(datums_, loss_); });
  pair.Step();
  ASSERT_TRUE(pair.far_trainer().SaveModel(dir_.path()).ok());
  const auto difference = pair.far_trainer().CheckExport(dir_.path(), datums_);
  ASSERT_TRUE(difference.ok()) << difference.status();
  EXPECT_GT(**difference, 0.0);
}

TEST_F(FarTrainerTest, SamplesFromACopyOnTheCpuOfTheSameVersion) {
  const LoraConfig lora{.rank = 3, .targets = {"all", "lm_head"}};
  for (const auto& config : {std::optional<LoraConfig>(), std::optional(lora)}) {
    Pair pair({"", Family::kQwen3, {}, config, 1e-4});
    GenerateRequest request;
    request.prompt = testing::RandomIds(9, 4);
    request.sampling.max_tokens = 12;
    for (int step = 0; step < 2; ++step) {
      pair.Expect([&](Trainer& t) { return t.ForwardBackward(datums_, loss_); });
      pair.Step();
      const auto sampled = pair.far_trainer().Sample({request}, 60.0);
      ASSERT_TRUE(sampled.ok()) << sampled.status();
      const Completion& c = (*sampled)[0][0];
      EXPECT_EQ(c.versions[0], (*pair.near_trainer().SaveWeightsForSampler())->version());
      Datum d;
      d.ids = request.prompt;
      d.ids.insert(d.ids.end(), c.ids.begin(), c.ids.end());
      d.weights.assign(d.ids.size(), 0.0f);
      std::fill(d.weights.begin() + 9, d.weights.end(), 1.0f);
      const auto forward = pair.far_trainer().Forward({d});
      ASSERT_TRUE(forward.ok()) << forward.status();
      for (size_t t = 0; t < c.ids.size(); ++t)
        EXPECT_NEAR(c.logprobs[t], forward->logprobs[0][9 + t], 2e-5);
    }
    EXPECT_TRUE(pair.far_trainer().SamplerModel().value()->device().is_cpu());
  }
}

TEST_F(FarTrainerTest, KeepsAFrozenVersionAndFollowsAnother) {
  const auto model = testing::MakeTinyModel(Family::kQwen3, at::kFloat);
  model->MoveTo(OtherDevice());
  const auto reference = *Trainer::Create(model, {.frozen = model->weights()});
  const auto trainer = *Trainer::Create(model, {});
  const auto before = *reference->Forward(datums_);
  ASSERT_TRUE(trainer->ForwardBackward(datums_, loss_).ok());
  ASSERT_TRUE(trainer->OptimStep(kAdam).ok());
  EXPECT_EQ(reference->Forward(datums_)->logprobs, before.logprobs);
  EXPECT_NE(trainer->Forward(datums_)->logprobs, before.logprobs);
  EXPECT_FALSE(reference->SaveWeightsForSampler().ok());

  const auto average = *Trainer::Create(testing::MakeTinyModel(Family::kQwen3, at::kFloat), {});
  ASSERT_TRUE(average->Follow(*trainer, 0.0).ok());
  EXPECT_LT(
      LargestDifference(average->Forward(datums_)->logprobs, trainer->Forward(datums_)->logprobs),
      2e-5);
}

TEST_F(FarTrainerTest, SaysWhatItCanNotDo) {
  EXPECT_THROW((*CreateRandomModel(testing::TinyConfig(Family::kQwen3), at::kChar, 1))
                   ->MoveTo(OtherDevice()),
               c10::Error);
  const auto used = testing::MakeTinyModel(Family::kQwen3, at::kFloat);
  used->weights();
  EXPECT_THROW(used->MoveTo(OtherDevice()), c10::Error);
  const auto model = testing::MakeTinyModel(Family::kQwen3, at::kFloat);
  model->MoveTo(OtherDevice());
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_THAT(message(Trainer::Create(model, {.optimizer = {.state = "int8"}})),
              HasSubstr("trainer.optimizer_state: int8 is for the CPU: trainer.device cpu, or "
                        "another one with trainer.offload"));
  EXPECT_THROW(model->MoveTo(at::kCPU, /*offload=*/true), c10::Error);
  EXPECT_THAT(message(CreateLocalEngine(model, {}, nullptr)), HasSubstr("samples on the CPU"));
  EXPECT_THAT(message(ParseDevice("gpu")), HasSubstr("'gpu' is no device; expected cpu, cuda"));
  EXPECT_THAT(message(ParseDevice("meta")), HasSubstr("'meta' is no device"));
  EXPECT_THAT(message(ParseDevice("far:1")), HasSubstr("torch sees 1 such devices here"));
  EXPECT_EQ(*ParseDevice("cpu"), at::Device(at::kCPU));
  EXPECT_EQ(*ParseDevice(OtherDevice().str()), OtherDevice());
}

}  // namespace
}  // namespace rft
