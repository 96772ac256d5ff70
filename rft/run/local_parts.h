// The parts of a run in this process: one model object that the trainer trains and the engine samples from (with a trainer on
// another device, the engine's is a copy on the CPU), and its first version, kept as it is, where the loss has a reference KL.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "rft/api/text_codec.h"
#include "rft/config/run_config.h"
#include "rft/run/run_parts.h"

namespace rft {

// The configured loss's defaults with the configured knobs over them. kInvalidArgument lists the known losses.
absl::StatusOr<LossConfig> ResolveLoss(const RunConfig& config);

// Loads config.model. `codec` serves stop strings and may be null.
// Errors: those of ResolveLoss and LoadModel; kInvalidArgument for an unknown engine or dtype (lists the known ones).
absl::StatusOr<RunParts> CreateLocalParts(const RunConfig& config,
                                          std::shared_ptr<const TextCodec> codec);

}  // namespace rft
