// The learning rate of each step: linear warm-up, then constant, linear, cosine or wsd (constant, then linear in the last
// decay_fraction of p).
#pragma once

#include <cstdint>

#include "rft/config/run_config.h"

namespace rft {

// `step` counts from 0. Warm-up: learning_rate * (step + 1) / warmup_steps, so that the first step
// already learns. After it, with p = (step - warmup_steps) / (steps - warmup_steps) in [0, 1]:
// linear and cosine go from learning_rate at p = 0 to learning_rate * min_lr_ratio at p = 1, and
// stay there. Example: learning_rate 1, steps 10, warmup_steps 2, linear: 0.5, 1, 1, 0.875, 0.75,
// ..., 0.125.
double LearningRateAt(const TrainerConfig& trainer, int64_t step);

}  // namespace rft
