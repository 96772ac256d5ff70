// Llama 2 / 3 and everything that ships as LlamaForCausalLM (SmolLM2, ...); Mistral, whose sliding window is in the config.
#include "rft/models/decoder.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateLlama(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  return std::make_shared<Decoder>(config, dtype, DecoderFeatures{});
}

absl::StatusOr<std::shared_ptr<CausalLm>> CreateMistral(const ModelConfig& config,
                                                        at::ScalarType dtype) {
  return CreateLlama(config, dtype);
}

RFT_REGISTER_MODEL("LlamaForCausalLM", CreateLlama);
RFT_REGISTER_MODEL("MistralForCausalLM", CreateMistral);

}  // namespace
}  // namespace rft
