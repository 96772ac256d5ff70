// A full fine-tune as what differs from its base: some percent of a model whose bf16 values mostly stay as they were.
//
//   delta.json          the base's folder, how many numbers changed, a checksum of the whole result
//   delta.safetensors   by parameter: <name>.positions (U32, ascending) and <name>.values (BF16), or, where more than a third
//                       changed, <name> (BF16) as a whole
//   config.json, tokenizer, ...: as in the base
//
// LoadModel reads such a folder wherever it reads a model; what it loads is, to the bit, what it would load from SaveModel(kBFloat16).
#pragma once

#include <memory>
#include <string>

#include "rft/models/causal_lm.h"

namespace rft {

// kFailedPrecondition for a model that came from no folder; errors of reading the base. The folder is created.
absl::Status SaveDelta(const CausalLm& model, const std::string& dir);

bool IsDeltaFolder(const std::string& dir);
// The folder of the base if `dir` is a delta, else `dir`. kInvalidArgument for a delta.json that says nothing of one.
absl::StatusOr<std::string> BaseFolder(const std::string& dir);
// Errors: as LoadModel, of the base too; kDataLoss if the result is not what was saved (another base, a damaged file).
absl::StatusOr<std::shared_ptr<CausalLm>> LoadDelta(const std::string& dir, at::ScalarType dtype);

}  // namespace rft
