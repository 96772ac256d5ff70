// "dapo": token-level clipped ratio with a higher upper bound, every active token of the step
// weighs the same, no KL.
//   J = (1/N) sum_i sum_t max(-r A, -clip(r, 0.8, 1.28) A) w
// The method's other halves live elsewhere: dynamic sampling in rollout/zero_variance_filter.h, the
// soft overlong penalty in graders/soft_overlong.h.
// Source: 2503.14476 eq. 8, 10, 12. Checked by tests/losses/loss_oracle_test.cc, preset rft.dapo.
#include "losses/clip.h"

namespace rft {
namespace {

void DapoDefaults(LossConfig& config) {
  config.clip_high = 0.28;
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("dapo", Dapo, &ClipSurrogate, &DapoDefaults);

}  // namespace
}  // namespace rft
