// Qwen3 dense: Llama's block with per-head RMSNorm of q and k.
#include "rft/models/decoder.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateQwen3(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  return std::make_shared<Decoder>(config, dtype, DecoderFeatures{.qk_norm = QkNorm::kPerHead});
}

// The language model of Qwen3-VL alone: its rotation is the plain one where there are no images.
absl::StatusOr<std::shared_ptr<CausalLm>> CreateQwen3Vl(const ModelConfig& config,
                                                        at::ScalarType dtype) {
  ModelConfig c = config;
  c.body = "model.language_model";
  return CreateQwen3(c, dtype);
}

RFT_REGISTER_MODEL("Qwen3ForCausalLM", CreateQwen3);
RFT_REGISTER_MODEL("Qwen3VLForConditionalGeneration", CreateQwen3Vl);

}  // namespace
}  // namespace rft
