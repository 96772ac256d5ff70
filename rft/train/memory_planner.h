// Predicts the peak memory of training and chooses the micro-batch, before the first step.
//
//   process (as it is now) + what will be allocated: gradients, optimizer state, the next version's compute copy,
//   activations and workspace of one micro-batch, the engine's state cache
//
// Worst moment: the backward of a full micro-batch; what malloc frees stays with the process (rft/tensor/memory.h), so the
// sum over both halves of a step is its peak.
#pragma once

#include "absl/status/statusor.h"
#include "rft/core/memory_plan.h"
#include "rft/train/trainer.h"

namespace rft {

// A model on another device: what is there and what stays in the process's memory (offloaded values and state, the engine's copy);
// the limit is of the device.
//
// The largest token budget up to options.token_budget whose predicted peak is within `limit_bytes` (0: what the machine, its
// control group or the device has left, less a tenth; options.token_budget where a device doesn't say). REQUIRES: the model is
// loaded and nothing has been stepped.
// kResourceExhausted when even the longest row does not fit: says what takes how much, and what to change.
absl::StatusOr<MemoryPlan> PlanMemory(CausalLm& model, const TrainerOptions& options,
                                      const MemoryWorkload& workload, int64_t limit_bytes);

}  // namespace rft
