// Qwen3 dense: Llama's block with per-head RMSNorm of q and k.
#include "rft/models/decoder.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateQwen3(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  return std::make_shared<Decoder>(config, dtype, DecoderFeatures{.qk_norm = QkNorm::kPerHead});
}

RFT_REGISTER_MODEL("Qwen3ForCausalLM", CreateQwen3);

}  // namespace
}  // namespace rft
