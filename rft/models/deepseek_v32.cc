// DeepSeek-V3.2 and GLM-5 (5.1): DeepSeek-V3 with a lightning indexer. They differ in how the indexer rotates; the later GLMs have
// layers that share the choice of the one before (indexer_types).
#include "rft/core/status_macros.h"
#include "rft/models/decoder.h"
#include "rft/models/indexer.h"
#include "rft/models/latent_attention.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> Create(const ModelConfig& config, at::ScalarType dtype,
                                                 bool interleaved) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, {.router = kDeepseekRouter}));
  RFT_RETURN_IF_ERROR(ReadLatentConfig(c));
  RFT_RETURN_IF_ERROR(ReadIndexerConfig(c, interleaved));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{});
}

absl::StatusOr<std::shared_ptr<CausalLm>> CreateDeepseekV32(const ModelConfig& config,
                                                            at::ScalarType dtype) {
  return Create(config, dtype, /*interleaved=*/false);
}

absl::StatusOr<std::shared_ptr<CausalLm>> CreateGlmMoeDsa(const ModelConfig& config,
                                                          at::ScalarType dtype) {
  return Create(config, dtype, /*interleaved=*/true);
}

RFT_REGISTER_MODEL("DeepseekV32ForCausalLM", CreateDeepseekV32);
RFT_REGISTER_MODEL("GlmMoeDsaForCausalLM", CreateGlmMoeDsa);

}  // namespace
}  // namespace rft
