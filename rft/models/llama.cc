// Llama 2 / 3 and everything that ships as LlamaForCausalLM (SmolLM2, ...).
#include "rft/models/decoder.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateLlama(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  return std::make_shared<Decoder>(config, dtype, DecoderFeatures{});
}

RFT_REGISTER_MODEL("LlamaForCausalLM", CreateLlama);

}  // namespace
}  // namespace rft
