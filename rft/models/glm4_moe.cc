// GLM-4.5: the router of DeepSeek-V3 (sigmoid scores, correction bias, groups, scale), dense first layers, a shared expert, and
// rotation of a part of each head.
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateGlm4Moe(const ModelConfig& config,
                                                        at::ScalarType dtype) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, {.router = kDeepseekRouter}));
  RFT_ASSIGN_OR_RETURN(const bool qk_norm, ReadBool(config, "use_qk_norm", false));
  return std::make_shared<Decoder>(
      c, dtype, DecoderFeatures{.qk_norm = qk_norm ? QkNorm::kPerHead : QkNorm::kNone});
}

RFT_REGISTER_MODEL("Glm4MoeForCausalLM", CreateGlm4Moe);

}  // namespace
}  // namespace rft
