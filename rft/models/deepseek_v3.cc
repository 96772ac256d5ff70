// DeepSeek-V3 (and R1, V3.1, Kimi-K2; the language model of Kimi-K2.5): latent attention, dense first layers, sigmoid scores with a correction bias, groups, a shared expert.
#include "rft/core/status_macros.h"
#include "rft/models/decoder.h"
#include "rft/models/latent_attention.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateDeepseekV3(const ModelConfig& config,
                                                           at::ScalarType dtype) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, {.router = kDeepseekRouter}));
  RFT_RETURN_IF_ERROR(ReadLatentConfig(c));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{});
}

// Its language model alone.
absl::StatusOr<std::shared_ptr<CausalLm>> CreateKimiK25(const ModelConfig& config,
                                                        at::ScalarType dtype) {
  ModelConfig c = config;
  c.body = "language_model.model";
  c.head = "language_model.lm_head";
  return CreateDeepseekV3(c, dtype);
}

absl::StatusOr<std::shared_ptr<CausalLm>> CreateGlm4MoeLite(const ModelConfig& config,
                                                            at::ScalarType dtype) {
  return CreateDeepseekV3(config, dtype);
}

RFT_REGISTER_MODEL("DeepseekV3ForCausalLM", CreateDeepseekV3);
RFT_REGISTER_MODEL("Glm4MoeLiteForCausalLM", CreateGlm4MoeLite);
RFT_REGISTER_MODEL("KimiK25ForConditionalGeneration", CreateKimiK25);

}  // namespace
}  // namespace rft
