// From what a caller asks to what the engine's thread works on: checks every field, then prepares what each draw needs.
// Torch-free.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "rft/engine/sequence.h"
#include "rft/models/model_config.h"

namespace rft {

// What the engine has room for.
struct RequestLimits {
  int64_t num_pages = 0, page_tokens = 16;
  bool has_codec = false;  // stop strings are matched on the bytes of tokens
};

// kInvalidArgument names the field and its range. `handle` and `sink` are the caller's to set.
absl::StatusOr<std::shared_ptr<EngineRequest>> MakeEngineRequest(GenerateRequest request,
                                                                 const ModelConfig& model,
                                                                 const RequestLimits& limits);

}  // namespace rft
