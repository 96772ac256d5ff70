#include "tests/models/tiny_model.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include "absl/strings/str_cat.h"
#include "rft/core/check.h"
#include "rft/core/rng.h"
#include "rft/tensor/dispatch.h"

namespace rft::testing {

std::string TinyConfig(Family family) {
  const char* const architecture = family == Family::kLlama   ? "LlamaForCausalLM"
                                   : family == Family::kQwen3 ? "Qwen3ForCausalLM"
                                                              : "Qwen3MoeForCausalLM";
  const std::string experts = family != Family::kQwen3Moe ? "" : R"(
  "moe_intermediate_size": 40, "num_experts": 10, "num_experts_per_tok": 3, "norm_topk_prob": true, "mlp_only_layers": [1],)";
  return absl::StrCat(R"({"architectures": [")", architecture, R"("], "model_type": ")",
                      FamilyName(family), R"(", "tie_word_embeddings": )",
                      family == Family::kLlama ? "false" : "true", ",", experts,
                      R"(
  "vocab_size": 258, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": )",
                      family == Family::kQwen3Moe ? 3 : 2, R"(, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "hidden_act": "silu", "attention_bias": false, "eos_token_id": 257})");
}

std::string FamilyName(Family family) {
  return family == Family::kLlama ? "llama" : family == Family::kQwen3 ? "qwen3" : "qwen3_moe";
}

std::shared_ptr<CausalLm> MakeTinyModel(Family family, at::ScalarType dtype, uint64_t seed) {
  auto model = CreateRandomModel(TinyConfig(family), dtype, seed);
  RFT_CHECK(model.ok());
  uint64_t index = 0;
  for (Parameter& p : (*model)->parameters().all()) {
    float* values = Data<float>(p.value);
    for (int64_t i = 0; i < p.value.numel(); ++i)
      values[i] *=
          p.value.dim() == 1 ? static_cast<float>(RandomIn(0.7, 1.3, seed, ++index)) : 10.0f;
  }
  return *std::move(model);
}

double RandomIn(double low, double high, uint64_t seed, uint64_t index) {
  return low + (high - low) * static_cast<double>(BitsAt(seed, 0x7465, index) >> 11) * 0x1.0p-53;
}

int64_t RandomInt(int64_t low, int64_t high, uint64_t seed, uint64_t index) {
  return low +
         static_cast<int64_t>(BitsAt(seed, 0x6e74, index) % static_cast<uint64_t>(high - low + 1));
}

std::vector<TokenId> RandomIds(int64_t count, uint64_t seed) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(RandomInt(0, 255, seed, i));
  return ids;
}

at::Tensor HiddenStates(const CausalLm& model, const ModelWeights& weights,
                        const std::vector<TokenId>& ids) {
  at::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(ids.size());
  PackedAttention attention({{.begin = 0, .count = count}});
  return model.forward(weights, at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::kLong),
                       at::arange(count, at::kLong), attention, nullptr);
}

}  // namespace rft::testing
