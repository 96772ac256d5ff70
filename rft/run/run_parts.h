// The parts of a run that stand behind interfaces: made by CreateLocalParts, or by a caller who has others (another engine,
// fakes in tests). Torch-free.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/api/inference_engine.h"
#include "rft/api/training_client.h"
#include "rft/core/loss_config.h"
#include "rft/core/memory_plan.h"

namespace rft {

struct RunParts {
  std::unique_ptr<InferenceEngine> engine;
  std::unique_ptr<TrainingClient> trainer;  // its log-probabilities are at rollout.temperature
  std::unique_ptr<TrainingClient>
      reference;  // the frozen model of the KL term; null unless loss.kl_coef > 0
  // Moves the reference towards the trained model after a step (trainer.reference_decay). Null where it stays as it is.
  std::function<absl::Status()> move_reference;
  LossConfig loss;  // the loss's defaults under the configuration's knobs
  // What the trainer saved into a folder against what it holds, re-scored on some rollouts: the mean |difference| in nats
  // (rft/train/export_check.h). Null where it is not in this process.
  std::function<absl::StatusOr<std::optional<double>>(const std::string& dir,
                                                      absl::Span<const Datum> datums)>
      check_export;
  // Says what the trainer will use memory for and sets its micro-batch. Null where it is not in this process.
  std::function<absl::StatusOr<MemoryPlan>(const MemoryWorkload&)> plan_memory;
};

}  // namespace rft
