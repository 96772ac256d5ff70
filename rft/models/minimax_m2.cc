// MiniMax-M2: sigmoid scores with a correction bias, renormalised; RMSNorm over the whole q and k, rotation of a part of each head.
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/models/decoder.h"
#include "rft/models/moe_config.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateMiniMaxM2(const ModelConfig& config,
                                                          at::ScalarType dtype) {
  ModelConfig c = config;
  MoeConfig family{.block = "block_sparse_moe",
                   .gate = "w1",
                   .up = "w3",
                   .down = "w2",
                   .correction_bias = "e_score_correction_bias"};
  family.router = {
      .score = RouterConfig::Score::kSigmoid, .renormalize = true, .correction_bias = true};
  RFT_ASSIGN_OR_RETURN(c.moe, ReadMoeConfig(config, family));
  return std::make_shared<Decoder>(c, dtype, DecoderFeatures{.qk_norm = QkNorm::kWholeWidth});
}

RFT_REGISTER_MODEL("MiniMaxM2ForCausalLM", CreateMiniMaxM2);

}  // namespace
}  // namespace rft
