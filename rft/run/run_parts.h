// The parts of a run that stand behind interfaces: made by CreateLocalParts, or by a caller who has others (another engine,
// fakes in tests). Torch-free.
#pragma once

#include <memory>

#include "rft/api/inference_engine.h"
#include "rft/api/training_client.h"
#include "rft/core/loss_config.h"

namespace rft {

struct RunParts {
  std::unique_ptr<InferenceEngine> engine;
  std::unique_ptr<TrainingClient> trainer;  // its log-probabilities are at rollout.temperature
  std::unique_ptr<TrainingClient>
      reference;    // the frozen model of the KL term; null unless loss.kl_coef > 0
  LossConfig loss;  // the loss's defaults under the configuration's knobs
};

}  // namespace rft
