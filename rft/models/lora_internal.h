// Shared by lora.cc and peft_folder.cc.
#pragma once

#include <string>
#include <vector>

#include "rft/models/lora.h"

namespace rft {

absl::Status ValidateLora(const LoraConfig& config);
// Everything of the base that an adapter can be put on: the layers' matrices in order, the embedding, the head.
std::vector<LoraTarget> Adaptable(CausalLm& base);
// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "....embed_tokens.lora_embedding_A"; `which` is 'A' or 'B'.
std::string LoraTensorName(const LoraTarget& target, char which);
// "q_proj" of "model.layers.0.self_attn.q_proj".
std::string ModuleName(const LoraTarget& target);

}  // namespace rft
