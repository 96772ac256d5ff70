#include "rft/config/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace rft {

double LearningRateAt(const TrainerConfig& t, int64_t step) {
  if (step < t.warmup_steps) {
    return t.learning_rate * static_cast<double>(step + 1) / static_cast<double>(t.warmup_steps);
  }
  const double length = static_cast<double>(std::max<int64_t>(1, t.steps - t.warmup_steps));
  const double p = std::min(1.0, static_cast<double>(step - t.warmup_steps) / length);
  double height = 1.0;  // 1 at p = 0, 0 at p = 1
  if (t.schedule == "linear") height = 1.0 - p;
  if (t.schedule == "cosine") height = 0.5 * (1.0 + std::cos(std::numbers::pi * p));
  if (t.schedule == "wsd")  // warm-up, stable, decay (2404.06395)
    height = std::min(1.0, (1.0 - p) / t.decay_fraction);
  return t.learning_rate * (t.min_lr_ratio + (1.0 - t.min_lr_ratio) * height);
}

}  // namespace rft
