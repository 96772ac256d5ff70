// Shared by lora.cc and peft_folder.cc.
#pragma once

#include <string>

#include "rft/models/lora.h"

namespace rft {

absl::Status ValidateLora(const LoraConfig& config);
// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"; `which` is 'A' or 'B'.
std::string LoraTensorName(const Parameter& base, char which);

}  // namespace rft
