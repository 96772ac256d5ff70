// Shared by hf_folder.cc and delta_folder.cc.
#pragma once

#include <optional>
#include <string>

#include "rft/core/file_system.h"
#include "rft/io/safetensors.h"
#include "rft/models/causal_lm.h"

namespace rft {

// The checkpoint's tensor of this name and shape, into the parameter's value. kInvalidArgument for NaN or Inf. `quantization`:
// how the checkpoint stores its linear layers.
absl::Status LoadParameter(const TensorMap& tensors, const Parameter& p,
                           const std::optional<StoredQuantization>& quantization);
// Everything beside the weights that makes a folder usable: tokenizer, template, generation settings.
absl::Status CopyCompanions(const std::string& from, const std::string& to, FileSystem& fs);

}  // namespace rft
