// Weights and optimizer state as one safetensors file, by parameter name: "NAME", "adam_m.NAME", "adam_v.NAME", all
// float32, whatever format the moments are kept in (reading it back gives the same bits); the step count is in the metadata. Before the first step there are no moments to write.
// Read back, an entry may also be in ranges of its flattened numbers, "NAME[begin:end]", that cover it once: what several processes
// that each hold a shard would write.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "rft/models/parameter_store.h"
#include "rft/train/optimizer.h"

namespace rft {

inline constexpr char kTrainerStateFile[] = "trainer.safetensors";

absl::Status SaveTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer);
// Everything is checked before anything is written: on an error, nothing has changed. kInvalidArgument names the tensor.
absl::Status LoadTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer);

}  // namespace rft
