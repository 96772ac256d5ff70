// OLMoE: softmax over all experts, weights not renormalised unless the config says so; RMSNorm over the whole q and k.
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateOlmoe(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  ModelConfig c = config;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, {}));
  RFT_RETURN_IF_ERROR(RefuseIfSet(config, {"clip_qkv"}));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{.qk_norm = QkNorm::kWholeWidth});
}

RFT_REGISTER_MODEL("OlmoeForCausalLM", CreateOlmoe);

}  // namespace
}  // namespace rft
