// Reads the mixture-of-experts keys of config.json, under all the names that families give them. Torch-free.
#pragma once

#include "absl/status/statusor.h"
#include "rft/models/model_config.h"

namespace rft {

// `moe` holds what the family fixes (kind of scores, names, defaults of keys that may be missing); the rest is read:
// number of experts, top_k, widths, renormalisation, groups, scale, which layers are sparse.
// Errors: kInvalidArgument naming the key.
absl::StatusOr<MoeConfig> ReadMoeConfig(const ModelConfig& config, MoeConfig moe);

}  // namespace rft
