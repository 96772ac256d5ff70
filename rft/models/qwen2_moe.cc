// Qwen2-MoE: softmax over all experts, and a shared expert with a gate of its own. Biases of q, k and v aren't supported.
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateQwen2Moe(const ModelConfig& config,
                                                         at::ScalarType dtype) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe,
                       ReadMoeConfig(config, {.shared_gate = true, .shared = "shared_expert"}));
  RFT_RETURN_IF_ERROR(RefuseUnlessFalse(config, "qkv_bias"));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{});
}

RFT_REGISTER_MODEL("Qwen2MoeForCausalLM", CreateQwen2Moe);

}  // namespace
}  // namespace rft
