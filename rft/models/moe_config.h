// Reads the mixture-of-experts keys of config.json, under all the names that families give them. Torch-free.
#pragma once

#include "absl/status/statusor.h"
#include "rft/models/model_config.h"

namespace rft {

// Of DeepSeek-V3 and those who took it over: sigmoid scores, a correction bias that enters the choice only.
inline constexpr RouterConfig kDeepseekRouter{.score = RouterConfig::Score::kSigmoid,
                                              .renormalize = true,
                                              .renormalize_eps = 1e-20,
                                              .correction_bias = true};

// `moe` holds what the family fixes (kind of scores, names, defaults of keys that may be missing); the rest is read:
// number of experts, top_k, widths, renormalisation, groups, scale, which layers are sparse.
// Errors: kInvalidArgument naming the key.
absl::StatusOr<MoeConfig> ReadMoeConfig(const ModelConfig& config, MoeConfig moe);

// A family's own switches. RefuseIfSet: kInvalidArgument if one of the keys has a value (not null). RefuseUnlessFalse: unless the
// key is there and false (families whose default is true).
absl::Status RefuseIfSet(const ModelConfig& config, const std::vector<std::string>& keys);
absl::Status RefuseUnlessFalse(const ModelConfig& config, const std::string& key);
absl::StatusOr<bool> ReadBool(const ModelConfig& config, const std::string& key, bool fallback);

}  // namespace rft
