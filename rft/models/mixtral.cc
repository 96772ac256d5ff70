// Mixtral: softmax over the chosen experts only, which is softmax over all and renormalisation.
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateMixtral(const ModelConfig& config,
                                                        at::ScalarType dtype) {
  ModelConfig c = config;
  MoeConfig family{.block = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  family.router.renormalize = true;
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, family));
  RFT_RETURN_IF_ERROR(RefuseIfSet(config, {"sliding_window"}));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{});
}

RFT_REGISTER_MODEL("MixtralForCausalLM", CreateMixtral);

}  // namespace
}  // namespace rft
