// "importance-sampling": the surrogate without a clip.
//   J = (1/N) sum_i sum_t -r A
// Checked by tests/losses/loss_oracle_test.cc, presets tinker.importance_sampling and
// fireworks.importance_sampling.
#include <limits>

#include "losses/clip.h"

namespace rft {
namespace {

void ImportanceSamplingDefaults(LossConfig& config) {
  config.clip_low = 1.0;
  config.clip_high = std::numeric_limits<double>::infinity();
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
}

RFT_REGISTER_POLICY_LOSS("importance-sampling", ImportanceSampling, &ClipSurrogate,
                         &ImportanceSamplingDefaults);

}  // namespace
}  // namespace rft
