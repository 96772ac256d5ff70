// Llama 2 / 3 and everything that ships as LlamaForCausalLM (SmolLM2, ...).
#include "rft/models/dense_transformer.h"

namespace rft {
namespace {

absl::StatusOr<std::shared_ptr<CausalLm>> CreateLlama(const ModelConfig& config,
                                                      at::ScalarType dtype) {
  return std::make_shared<DenseTransformer>(config, dtype, DenseFeatures{});
}

RFT_REGISTER_MODEL("LlamaForCausalLM", CreateLlama);

}  // namespace
}  // namespace rft
