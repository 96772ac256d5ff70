// Qwen3-MoE: Qwen3's block, softmax over all experts, the best few.
#include "rft/core/status_macros.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateQwen3Moe(const ModelConfig& config,
                                                         at::ScalarType dtype) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, {}));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{.qk_norm = QkNorm::kPerHead});
}

RFT_REGISTER_MODEL("Qwen3MoeForCausalLM", CreateQwen3Moe);

}  // namespace
}  // namespace rft
